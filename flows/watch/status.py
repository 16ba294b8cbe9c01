"""What a watcher says of itself: to supervisors, in the store for `watch --status`, and as a sentence for people."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from flows.watch.desk import Desk
from flows.watch.receiver import Receiver
from flows.watch.sweep import Sweeper
from tasks.core.errors import ReelflowError
from tasks.core.fetch import display_source
from tasks.core.records import json_bytes
from tasks.core.schema import Record
from tasks.records.artifacts import content_key
from tasks.store import Store

FOLDER: Final = "watchers"
EVERY_S: Final = 10.0
SILENT_S: Final = 120.0
"""A queue that has not answered for so long makes a watcher unhealthy."""

STALLED_S: Final = 600.0
"""So does work that waits while nothing goes through for so long; one long video may take that."""


class Status(Record):
    """watchers/{id}.json: one watcher of a prefix on a host, as it last was."""

    prefix: str
    host: str
    pid: int
    since: datetime
    at: datetime
    """When this was written; older than a minute means that it is gone."""
    ended: bool
    healthy: bool
    waiting: int
    running: int
    expected_wait_s: float
    level: int
    sample_fps: float
    asked_fps: float
    counts: dict[str, int]
    sweep: dict[str, Any]
    cameras: dict[str, dict[str, Any]]

    def lines(self) -> Iterator[str]:
        """For a person: the watcher, then a line for each camera."""
        old_s = (datetime.now(UTC) - self.at).total_seconds()
        state = "ended" if self.ended else f"SILENT for {old_s:.0f} s" if old_s > 60 else "running"
        state = state if self.healthy or state != "running" else "NOT HEALTHY"
        less = f", sampling {self.sample_fps:g} frames/s instead of {self.asked_fps:g}" if self.level else ""
        yield (
            f"{self.prefix} on {self.host}: {state}; {self.running} in work, {self.waiting} wait "
            f"(about {self.expected_wait_s:.0f} s){less}"
        )
        yield "  " + (", ".join(f"{count} {name}" for name, count in sorted(self.counts.items())) or "nothing yet")
        for camera, seen in self.cameras.items():
            stages = " + ".join(
                f"{name.removesuffix('_s')} {seen[name]:.2f}"
                for name in ("capture_s", "upload_s", "queue_s", "analysis_s", "commit_s")
                if seen.get(name) is not None
            )
            yield (
                f"  {camera}: {seen['objects']} objects, put to commit {seen['total_s']:.2f} s "
                f"(95%: {seen['total_p95_s']:.2f} s); {stages} s; last {seen['last']}"
            )


class Watchman:
    """Looks at the parts of a watcher."""

    def __init__(self, desk: Desk, receiver: Receiver | None, sweeper: Sweeper | None) -> None:
        self._desk, self._receiver, self._sweeper = desk, receiver, sweeper
        self._since = datetime.now(UTC)
        self._written = time.monotonic()
        self._path = f"{FOLDER}/{content_key(desk.prefix, socket.gethostname())}.json"

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Is all well? And the figures, without names of cameras: whoever reaches the port may read them."""
        found = self.look()
        shown = found.model_dump(
            mode="json", include={"since", "at", "healthy", "waiting", "running", "level", "counts"}
        )
        return found.healthy, shown

    def look(self, *, ended: bool = False) -> Status:
        """The status now."""
        desk, now = self._desk, time.monotonic()
        if not (desk.running or desk.waiting):
            desk.last_end = now
        answers = self._receiver is None or now - self._receiver.answered_at < SILENT_S
        return Status(
            prefix=display_source(desk.prefix),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            at=datetime.now(UTC),
            ended=ended,
            healthy=answers and now - desk.last_end < STALLED_S,
            waiting=desk.waiting,
            running=desk.running,
            expected_wait_s=round(desk.shedding.wait_s(desk.waiting), 1),
            level=desk.shedding.level,
            sample_fps=desk.ladder[desk.shedding.level].frames.fps,
            asked_fps=desk.ladder[0].frames.fps,
            counts={name: count for name, count in sorted(desk.counts.items()) if count},
            sweep=self._sweeper.last if self._sweeper else {},
            cameras=desk.cameras.figures(),
        )

    def write(self, *, ended: bool = False, now: bool = False) -> None:
        """Leaves the status in the store, every EVERY_S seconds or `now`; a store that is away is no reason to stop."""
        if not now and time.monotonic() - self._written < EVERY_S:
            return
        self._written = time.monotonic()
        try:
            self._desk.root.write(self._path, json_bytes(self.look(ended=ended), indent=1))
        except ReelflowError as error:
            self._desk.say.warning("The status is not written: %s", error.message)


def read_all(store: Store, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Status]:
    """The watchers of a store, those whose prefix is wanted."""
    for path in store.list(FOLDER):
        found = store.read(path) if re.fullmatch(rf"{FOLDER}/[0-9a-f]{{32}}\.json", path) else None
        try:
            status = Status.model_validate_json(found[0]) if found else None
        except ValidationError:
            continue
        if status and wanted(status.prefix):
            yield status
