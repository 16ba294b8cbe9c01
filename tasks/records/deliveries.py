"""The ledger of what was sent: one row per alert and target, and every attempt in it.

An attempt is written down before it is made. Whoever is killed in between leaves `sending`: whether that arrived is not
known, so it is made again and says so, with the same key, by which the receiver drops a repetition.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

import psutil
from pydantic import Field

from tasks.core.alerts.clock import Hours
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.rules import Rules, Target
from tasks.core.errors import StoreConflict
from tasks.core.records import json_bytes
from tasks.core.schema import Record
from tasks.core.source_names import hide_secrets
from tasks.store import Store

SEND_S: Final = 120.0
"""An attempt of another host that is not settled after so long was cut off."""
PAUSE_S: Final = (5.0, 900.0)
"""After the first failure, and the longest."""
GIVE_UP_S: Final = 24 * 3600.0
"""From the first attempt."""

_sending: set[str] = set()
"""Paths of rows that a thread of this process tries."""
_turn = threading.Lock()

Outcome = Literal["sending", "sent", "unreachable", "unknown", "refused"]
"""unreachable: it surely did not arrive. unknown: it may have. refused: the target will not have it."""
State = Literal["open", "held", "sent", "failed", "dropped", "cooldown"]
FINAL: Final = frozenset({"sent", "failed", "dropped", "cooldown"})


class Attempt(Record):
    at: float
    owner: str
    """Process that made it."""
    outcome: Outcome
    again: bool = False
    """An attempt before may have arrived."""
    said: str = ""


class Delivery(Record):
    """One alert at one target."""

    alert: str
    row: str
    """Path of the alert in the store."""
    target: str
    key: str
    """The same in every attempt."""
    state: State = "open"
    why: str = ""
    attempts: list[Attempt] = Field(default_factory=list)
    not_before: float = 0.0

    @property
    def again(self) -> bool:
        """May it have arrived already?"""
        return any(attempt.outcome in ("unknown", "sending") for attempt in self.attempts)


Send = Callable[[Target, Alert, str, str, int, bool], tuple[Outcome, str]]
"""(target, alert, time zone, key, attempt, again) to the outcome and what the target said."""


def open_delivery(store: Store, row: str, alert: Alert, target: str) -> None:
    """Notes that the alert is to be sent there, unless that is in the ledger."""
    name = _name(alert.id, target)
    delivery = Delivery(
        alert=alert.id, row=row, target=target, key=hashlib.sha256(f"{alert.id}/{target}".encode()).hexdigest()[:32]
    )
    path = f"alerts/deliveries/{name}.json"
    if store.size(path) is not None:
        return
    if alert.cooldown:
        delivery = delivery.model_copy(update={"state": "cooldown", "why": "the rule has sent one a moment ago"})
    else:
        store.write(f"alerts/open/{name}.json", b"{}")
    try:
        store.commit(path, json_bytes(delivery), None)
    except StoreConflict:
        return


def deliver(
    store: Store,
    rules: Rules,
    read: Callable[[Store, str], Alert | None],
    send: Send,
    now: Callable[[], float] = time.time,
) -> Iterator[Delivery]:
    """Tries what is to be sent now; yields each row that it changed, as it stands then."""
    for marker in list(store.list("alerts/open")):
        path = "alerts/deliveries/" + marker.removeprefix("alerts/open/")
        found = store.read(path)
        if found is None:
            continue  # it is being opened
        delivery, tag = Delivery.model_validate_json(found[0]), found[1]
        if delivery.state in FINAL:
            store.delete(marker)
            continue
        alert = read(store, delivery.row)
        if alert is None or delivery.target not in rules.targets:
            continue  # another file of rules has the target
        if alert.image:
            alert = alert.model_copy(update={"image": store.uri(alert.image)})
        with _turn:
            if path in _sending:
                continue
            _sending.add(path)
        try:
            changed = _try(store, path, tag, delivery, alert, rules, send, now)
        finally:
            _sending.discard(path)
        if changed is None:
            continue
        if changed.state in FINAL:
            store.delete(marker)
        yield changed


def deliveries_of(store: Store, alert_id: str) -> list[Delivery]:
    """The ledger's rows of one alert."""
    rows = (store.read(path) for path in store.list(f"alerts/deliveries/{alert_id}"))
    return [Delivery.model_validate_json(row[0]) for row in rows if row]


def _try(
    store: Store,
    path: str,
    tag: str,
    delivery: Delivery,
    alert: Alert,
    rules: Rules,
    send: Send,
    now: Callable[[], float],
) -> Delivery | None:
    target = rules.targets[delivery.target]
    at = now()
    if at < delivery.not_before or _is_under_way(delivery, at):
        return None
    quiet = target.quiet or rules.quiet
    if quiet and quiet.then == "drop" and (held := quiet.holding(alert.time, rules.timezone)):
        return _settle(store, path, tag, delivery, state="dropped", why=_hours(held, quiet, "dropped"))
    if quiet and quiet.then == "hold" and (held := quiet.holding(at, rules.timezone)):
        return _settle(store, path, tag, delivery, state="held", why=_hours(held, quiet, "held"), not_before=held[1])
    again = delivery.again
    cut_off = [a.model_copy(update={"outcome": "unknown"}) if a.outcome == "sending" else a for a in delivery.attempts]
    begun = Attempt(at=at, owner=_owner(), outcome="sending", again=again)
    trying = _settle(store, path, tag, delivery, state="open", why="", attempts=[*cut_off, begun])
    if trying is None:
        return None
    outcome, said = send(target, alert, rules.timezone, delivery.key, len(trying.attempts), again)
    ended = begun.model_copy(update={"outcome": outcome, "said": hide_secrets(said)[:500]})
    attempts = [*cut_off, ended]
    first = attempts[0].at
    state: State = (
        "sent" if outcome == "sent" else "failed" if outcome == "refused" or at - first > GIVE_UP_S else "open"
    )
    pause = min(PAUSE_S[0] * 2 ** min(len(attempts) - 1, 20), PAUSE_S[1])
    current = store.read(path)
    return _settle(
        store,
        path,
        current[1] if current else "",
        trying,
        state=state,
        attempts=attempts,
        not_before=0.0 if state in FINAL else at + pause,
    )


def _settle(store: Store, path: str, tag: str, delivery: Delivery, **change: object) -> Delivery | None:
    """The row with these changes; None where another run has changed it meanwhile, or nothing is new."""
    after = delivery.model_copy(update=change)
    if after == delivery:
        return None
    try:
        store.commit(path, json_bytes(after), tag)
    except StoreConflict:
        return None
    return after


def _is_under_way(delivery: Delivery, at: float) -> bool:
    """Is another process sending it at this moment? Its clock counts only where it is another host's."""
    if not delivery.attempts or delivery.attempts[-1].outcome != "sending":
        return False
    host, pid, began = delivery.attempts[-1].owner.rsplit(":", 2)
    if host == socket.gethostname():
        try:
            return f"{psutil.Process(int(pid)).create_time():.2f}" == began and int(pid) != os.getpid()
        except psutil.NoSuchProcess:
            return False
    return at - delivery.attempts[-1].at < SEND_S


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def _hours(held: tuple[float, float], quiet: Hours, what: str) -> str:
    return f"{what}: quiet hours {quiet.start:%H:%M} to {quiet.end:%H:%M}"


def _name(alert_id: str, target: str) -> str:
    """Names of targets are anything that YAML can say."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", target)[:40]
    return f"{alert_id}/{plain}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"
