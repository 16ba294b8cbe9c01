"""What a room has seen since it was last marked as cleaned: who came, for how long, in words and as a page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import Field

from tasks.core.activity.page import lasting
from tasks.core.alerts.clock import zone
from tasks.core.alerts.place import inside
from tasks.core.schema import Record
from tasks.core.tracking.records import Sight

LOOK_BACK_S: Final = 7 * 86400.0
"""Of a room that was never marked, or longer ago, visits are counted so far back."""
STEP_S: Final = 15.0
"""Longer between two frames that show someone, nobody knows where they were; key frames alone come every 1 to 10 s."""
LEAST_FRAMES: Final = 2
"""In a zone: one frame on its edge makes no visit of a room."""
KEPT: Final = 500
"""Marks of a room that are kept."""

_HERE: Final = Path(__file__).parent


class Mark(Record):
    """Someone said that a room is clean."""

    id: str
    """Of the message: said again, it is the same mark."""
    at: float
    by: str


class RoomMarks(Record):
    """rooms/{digest}.json: what was said of one room, in order; written on condition that nobody else did meanwhile."""

    room: str
    marks: tuple[Mark, ...] = ()

    def last_before(self, at: float, leave_out: str = "") -> Mark | None:
        """The last mark until a moment, but for one."""
        found = [mark for mark in self.marks if mark.at <= at and mark.id != leave_out]
        return max(found, key=lambda mark: mark.at, default=None)

    def marked(self, mark: Mark) -> RoomMarks:
        """With one more, unless it is there; the oldest go beyond KEPT."""
        if any(each.id == mark.id for each in self.marks):
            return self
        return RoomMarks(room=self.room, marks=tuple(sorted((*self.marks, mark), key=lambda each: each.at))[-KEPT:])


class RoomState(Record):
    """A room since it was cleaned."""

    room: str
    camera: str
    cleaned: Mark | None
    since: float
    """From when on visits are counted."""
    visits: int = 0
    seconds: float = 0.0
    last: float | None = None
    """When someone was last seen there."""
    known_until: float | None = Field(None, description="Until when the camera's windows were followed; None: never")

    def line(self, timezone: str) -> str:
        """`Room 2: 3 visits, 12 min 05 s since Sat 28 Nov 14:05`."""
        if self.known_until is None:
            return f"{self.room}: not known, nobody follows {self.camera}"
        came = f"{self.visits} {'visit' if self.visits == 1 else 'visits'}, {lasting(self.seconds)}"
        return f"{self.room}: {came if self.visits else 'nobody'} {self._since(timezone)}{self._until(timezone)}"

    def _since(self, timezone: str) -> str:
        if self.cleaned and self.cleaned.at >= self.since:
            return f"since {local(self.cleaned.at, timezone)}"
        return f"since {local(self.since, timezone)}, {'never' if self.cleaned is None else 'not'} marked as cleaned"

    def _until(self, timezone: str) -> str:
        """How far the room is known, where that is before it was cleaned."""
        if self.known_until is not None and self.known_until < self.since:
            return f" (followed until {local(self.known_until, timezone)} only)"
        return ""


def seconds_in(
    sights: Iterable[tuple[str, Sight]], polygon: Sequence[tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """By visit that was in the polygon: for how long, and until when. A step counts that begins and ends in it."""
    found: dict[str, list[float]] = {}
    last: dict[str, tuple[float, bool]] = {}
    for visit, sight in sorted(sights, key=lambda each: (each[0], each[1].time)):
        here = inside(sight.foot, polygon)
        before, was = last.get(visit, (sight.time, False))
        last[visit] = sight.time, here
        if here:
            held = found.setdefault(visit, [0.0, 0.0, 0.0])
            held[0] += sight.time - before if was and sight.time - before <= STEP_S else 0.0
            held[1] = sight.time
            held[2] += 1
    return {visit: (held[0], held[1]) for visit, held in found.items() if held[2] >= LEAST_FRAMES}


def local(at: float, timezone: str) -> str:
    return f"{datetime.fromtimestamp(at, zone(timezone)):%a %d %b %H:%M}"


def page(states: Sequence[RoomState], timezone: str, made: float) -> str:
    """The report as one HTML page without scripts; rooms that wait for cleaning first."""
    css = (_HERE.parent / "publish" / "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(lasting=lasting)
    return environment.get_template("cleaning.html").render(
        states=sorted(states, key=lambda state: -state.seconds),
        waiting=sum(state.visits > 0 for state in states),
        made=local(made, timezone),
        timezone=timezone,
        local=lambda at: local(at, timezone),
        css=Markup(css),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )
