"""One run at a time analyses a media: others wait for it, then find its result or go on from its artifacts.

The lease is an object in the store, taken by a conditional write and renewed while its holder works. Whoever waits
takes it over when it has not changed for its whole term by the waiter's own clock (no two hosts' clocks are compared),
or at once when the holder was a process of this host that is gone. What stands in the store may be damaged or forged:
no term is believed beyond MOST_TERM_S, what is no lease holds nothing, and nobody waits longer than MOST_WAIT_S,
whoever renews. Work that goes on after its lease was lost does no harm: artifacts and results are named by content and
committed whole.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from tasks.core.errors import ReelflowError, StoreConflict
from tasks.store import Store

TERM_S = 30.0
"""A holder renews three times in a term; a waiter on another host loses at most one term to a holder that died."""

MOST_TERM_S = 300.0
"""Longest term of any holder; a lease that names a longer one holds nothing."""

MOST_WAIT_S = 24 * 3600.0
"""Then a waiter takes the lease, and a holder gives up renewing it: a run that hangs renews for ever."""

POLL_S = (0.1, 2.0)
"""First and longest pause between two looks at a lease that another run holds."""


class Holder(BaseModel):
    """A process, so that another one on its host can tell whether it is still there."""

    host: str
    """Host, and process namespace of a container on it."""
    pid: int
    process_start: str
    """Tells a process from a later one with the same id."""

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        return Holder(host=_host(), pid=os.getpid(), process_start=_start(os.getpid()))

    def is_gone(self) -> bool:
        """Was it a process of this host that has ended? Of other hosts nothing is known."""
        return self.host == _host() and _start(self.pid) != self.process_start


class Lease(Holder):
    """Who works on a media, as the store tells it."""

    owner: str
    """One holding of the lease; random."""
    term_s: float = Field(gt=0, le=MOST_TERM_S)
    renewals: int = 0


@contextmanager
def exclusive(
    store: Store, media_id: str, *, term_s: float = TERM_S, waiting: Callable[[Lease], None] = lambda _: None
) -> Iterator[None]:
    """Holds the lease of a media for the block; `waiting` is called once, with the holder, where that takes time."""
    path = f"media/{media_id}/lease.json"
    mine = Lease(**Holder.me().model_dump(), owner=uuid.uuid4().hex, term_s=term_s)
    _take(store, path, mine, waiting)
    ended, lost = threading.Event(), threading.Event()
    renewer = threading.Thread(target=_renew, args=(store, path, mine, ended, lost), name="reelflow-lease", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        if not lost.is_set():
            with suppress(ReelflowError):  # a lease that cannot be given back runs out
                _give_back(store, path, mine)


def _take(store: Store, path: str, mine: Lease, waiting: Callable[[Lease], None]) -> None:
    seen_tag, seen_at, told = "", 0.0, False
    started, pause = time.monotonic(), POLL_S[0]
    while True:
        found = store.read(path)
        expected: str | None = None
        if found is not None:
            holder, expected = _parse(found[0]), found[1]
            now = time.monotonic()
            if expected != seen_tag:
                seen_tag, seen_at = expected, now
            holds = holder is not None and now - seen_at < holder.term_s and not holder.is_gone()
            if holder and holds and now - started < MOST_WAIT_S:
                if not told:
                    told = True
                    waiting(holder)
                time.sleep(pause)
                pause = min(POLL_S[1], 1.5 * pause)
                continue
        try:
            store.commit(path, mine.model_dump_json().encode(), expected)
        except StoreConflict:
            if time.monotonic() - started < MOST_WAIT_S:
                continue
            raise StoreConflict(
                f"{store.uri(path)} is taken again and again by others; see who writes it, remove it, and try again."
            ) from None
        return


def _renew(store: Store, path: str, mine: Lease, ended: threading.Event, lost: threading.Event) -> None:
    """Rewrites the lease until the block ends, another run has taken it, or it was held for MOST_WAIT_S."""
    until = time.monotonic() + MOST_WAIT_S
    while not ended.wait(mine.term_s / 3) and time.monotonic() < until:
        try:
            found = store.read(path)
            if found is None or not _is_owner(found[0], mine):
                lost.set()
                return
            mine = mine.model_copy(update={"renewals": mine.renewals + 1})
            store.commit(path, mine.model_dump_json().encode(), found[1])
        except StoreConflict:
            lost.set()
            return
        except ReelflowError:
            continue  # the store is away: the next turn tries again, and the term tells others how long to wait


def _give_back(store: Store, path: str, mine: Lease) -> None:
    found = store.read(path)
    if found is not None and _is_owner(found[0], mine):
        store.delete(path)


def _parse(text: bytes) -> Lease | None:
    """None for what is no lease: whoever comes takes its place."""
    try:
        return Lease.model_validate_json(text)
    except ValidationError:
        return None


def _is_owner(text: bytes, mine: Lease) -> bool:
    found = _parse(text)
    return found is not None and found.owner == mine.owner


@cache
def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    spaces = Path("/proc/self/ns/pid")
    known = [boot.read_text().strip() if boot.exists() else "", str(spaces.readlink()) if spaces.exists() else ""]
    return "/".join([socket.gethostname(), *known])


def _start(pid: int) -> str:
    """When a process of this host started, in clock ticks since boot; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
