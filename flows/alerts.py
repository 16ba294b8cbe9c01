"""Rules over cameras: track what is committed, let the rules fire, send what is to be sent; once or for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from tasks.alerts import alert_path, read_alert, replay, run_rules
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.message import line
from tasks.core.alerts.rules import BadRules, Rules, read_rules
from tasks.records.deliveries import Delivery, deliver, deliveries_of
from tasks.senders import named, send
from tasks.store import Store
from tasks.visits import Waiting, cameras_under, late_windows, track_camera, tracked_cameras


class AlertsReport(BaseModel):
    """What one round came to."""

    windows: int = 0
    """Tracked in it."""
    alerts: int = 0
    """New ones."""
    sent: int = 0
    waiting: list[str] = []
    """Cameras that wait for a window, and why."""
    late: list[str] = []
    """Windows that came after later ones had been tracked: they are in no visit."""
    failed: list[str] = []
    """Deliveries that came to no good end."""
    held: int = 0

    def sentence(self) -> str:
        """The report for a person."""
        held = f", {self.held} held in quiet hours" if self.held else ""
        return f"{self.windows} windows tracked, {self.alerts} new alerts, {self.sent} sent{held}."


def load_rules(path: Path) -> Rules:
    """The rules of a file. Raises typer.BadParameter with a line for each fault."""
    try:
        return read_rules(path.read_text("utf-8"), path.name)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    except (BadRules, UnicodeDecodeError) as error:
        raise typer.BadParameter(str(error)) from error


def run_once(
    prefix: str, store: Store, rules: Rules, heard: Callable[[Alert], None], told: Callable[[Delivery], None]
) -> AlertsReport:
    """One round over every camera under the prefix. Raises SetupError for a target's variable that is not set."""
    for target in rules.targets.values():
        for value in filter(None, (target.webhook, target.url, target.secret)):
            named(value)
    report = AlertsReport()
    for camera, windows in cameras_under(prefix, store).items():
        for tracked in track_camera(store, camera, windows):
            if isinstance(tracked, Waiting):
                report.waiting.append(f"{camera}: {tracked.why}")
            else:
                report.windows += 1
        report.late += late_windows(store, camera, windows)
        for alert in run_rules(store, rules, camera):
            report.alerts += 1
            heard(alert)
    for delivery in deliver(store, rules, read_alert, send):
        report.sent += delivery.state == "sent"
        report.held += delivery.state == "held"
        if delivery.state == "failed":
            report.failed.append(f"{delivery.target}: {delivery.attempts[-1].outcome} {delivery.attempts[-1].said}")
        told(delivery)
    return report


def follow(rounds: Callable[[], AlertsReport], every_s: float) -> Iterator[AlertsReport]:
    """A round every so many seconds, without end."""
    while True:
        started = time.monotonic()
        yield rounds()
        time.sleep(max(0.0, started + every_s - time.monotonic()))


def replayed(store: Store, rules: Rules, since: float, until: float) -> Iterator[Alert]:
    """What would have fired, over all cameras of the store."""
    for camera in tracked_cameras(store):
        yield from replay(store, rules, camera, since, until)


def trial(rules: Rules) -> Iterator[tuple[str, str]]:
    """Sends a made-up alert to every target; (target, what came of it)."""
    now = time.time()
    for name, target in rules.targets.items():
        alert = Alert(
            id=os.urandom(16).hex(),
            rule="trial",
            rule_digest="0" * 32,
            camera="trial",
            visit="trial",
            kind="visit",
            start=now,
            time=now,
            why="a trial: nothing has happened",
            window="",
            source="trial",
        )
        outcome, said = send(target, alert, rules.timezone, alert.id, 1, False)
        yield name, f"{outcome} {said}".strip()


def as_line(store: Store, alert: Alert) -> dict[str, Any]:
    """A line of `--json`: the alert and how far its deliveries are."""
    rows = deliveries_of(store, alert.id)
    found = read_alert(store, alert_path(alert)) or alert
    shown = {"image": store.uri(found.image) if found.image else None}
    return line(found) | shown | {"deliveries": [{"target": row.target, "state": row.state} for row in rows]}
