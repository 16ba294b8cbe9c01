"""Events of a camera's health: each has one row, from when a state begins to when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tasks.core.live.health import Kind
from tasks.core.live.names import rfc3339, row_path
from tasks.core.schema import Record


class Event(Record):
    """A stretch of time in which something was wrong with a camera."""

    camera: str
    kind: Kind
    start: str
    """RFC 3339, UTC."""
    end: str | None
    """None: it lasts."""

    @property
    def path(self) -> str:
        """Where the row lies below the root of the recordings: the same when it begins and when it ends."""
        return row_path("events", self.camera, datetime.fromisoformat(self.start).timestamp(), self.kind)


class Events:
    """What is wrong with one camera now; `open` is what a restart must know."""

    def __init__(self, camera: str, open_: Mapping[Kind, float]) -> None:
        self.camera = camera
        self.open: dict[Kind, float] = dict(open_)

    def now(self, states: Mapping[Kind, float], at: float, kinds: frozenset[Kind]) -> list[Event]:
        """Rows of what has begun and of what is over, given all states of these kinds that hold and since when."""
        rows = []
        for kind in sorted(kinds):
            since = states.get(kind)
            if since is not None and kind not in self.open:
                self.open[kind] = since
                rows.append(self._event(kind, since, None))
            elif since is None and kind in self.open:
                rows.append(self._event(kind, self.open.pop(kind), at))
        return rows

    def _event(self, kind: Kind, start: float, end: float | None) -> Event:
        return Event(camera=self.camera, kind=kind, start=rfc3339(start), end=None if end is None else rfc3339(end))
