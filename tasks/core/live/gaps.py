"""The ledger of gaps: every second without a window has a row, and the row says why.

While windows come nothing is written. Between the end of one and the start of the next, the causes that were noted
divide the time: from when the stream was gone, from when its process was down, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import Field

from tasks.core.live.health import Kind
from tasks.core.live.names import WindowRecord, rfc3339, row_path
from tasks.core.schema import Record

Cause = Literal["stream_absent", "stalled", "decoder", "spool_overflow", "process_down", "store_refused", "clock_step"]

LEAST_S = 0.1
"""Shorter ones are the rounding of two estimates, not missing time."""
BEFORE_S = 2.5
"""A cause is noted when frames were last heard of; the window that they are in may end so much later."""
LONG_S = 30.0
"""A gap that is still open has a row once it has lasted so long."""


class Gap(Record):
    """A stretch of a camera's time of which there is no window."""

    camera: str
    start: str
    """RFC 3339, UTC."""
    end: str | None
    """None: it lasts."""
    seconds: float | None
    cause: Cause

    @property
    def path(self) -> str:
        """Where the row lies below the root of the recordings."""
        return row_path("gaps", self.camera, datetime.fromisoformat(self.start).timestamp(), self.cause)


class Mark(NamedTuple):
    at: float
    cause: Cause


class LedgerState(Record):
    """What a camera's ledger must know after a restart."""

    end: float | None = None
    """Where the last window ended, Unix time; None before the first."""
    sequence: int = Field(0, ge=0)
    """Of the last window that was accounted for."""
    alive: float | None = None
    """When the process was last seen alive."""
    marks: tuple[tuple[float, Cause], ...] = ()
    events: dict[Kind, float] = Field(default_factory=dict)
    """States of its health that lasted, and since when."""
    begun: float | None = None
    """When the camera was first asked for: before its first window it is missing from then on."""


class Ledger:
    """One camera's gaps. Times are Unix times."""

    def __init__(self, camera: str, state: LedgerState, now: float) -> None:
        self.camera = camera
        self._state = state
        self._marks = [Mark(*mark) for mark in state.marks]
        if state.begun is None:
            self._state = state.model_copy(update={"begun": now})
        elif state.alive is not None:
            self.mark(state.alive, "process_down")
        self._opened: Gap | None = None

    @property
    def end(self) -> float | None:
        return self._state.end

    @property
    def sequence(self) -> int:
        return self._state.sequence

    @property
    def cause(self) -> Cause | None:
        """The last that was noted and still counts."""
        return self._marks[-1].cause if self._marks else None

    def state(self, now: float) -> LedgerState:
        """To be kept; alive now."""
        return self._state.model_copy(update={"alive": now, "marks": tuple(tuple(mark) for mark in self._marks)})

    def mark(self, at: float, cause: Cause) -> None:
        """From this time on, whatever is missing is missing for this cause."""
        if not self._marks or self._marks[-1].cause != cause:
            self._marks.append(Mark(at, cause))

    def window(self, record: WindowRecord) -> list[Gap]:
        """A window has come: the rows of what was missing before it, none where it joins the last one."""
        if record.sequence <= self._state.sequence:
            return []
        since = self._state.end if self._state.end is not None else self._state.begun
        rows = list(self._rows(since, record.begins)) if since is not None else []
        end = record.ends
        self._state = self._state.model_copy(update={"end": end, "sequence": record.sequence})
        used = record.begins if rows else end - BEFORE_S
        self._marks = [mark for mark in self._marks if mark.at > used]
        self._opened = None
        return rows

    def absent_since(self, now: float) -> float | None:
        """Since when nothing has come, where that is long ago."""
        since = self._state.end if self._state.end is not None else self._state.begun
        return since if since is not None and now - since >= LONG_S else None

    def open_gap(self, now: float) -> list[Gap]:
        """Rows of a gap that has lasted for long, the last without an end; each is given once."""
        since = self.absent_since(now)
        if since is None:
            return []
        rows = list(self._rows(since, now))
        if not rows:
            return []
        last = rows[-1].model_copy(update={"end": None, "seconds": None})
        if last == self._opened:
            return []
        self._opened = last
        return [*rows[:-1], last]

    def lost(self, record: WindowRecord, cause: Cause) -> Gap:
        """A window that was there and had to go."""
        return self._gap(record.begins, record.ends, cause)

    def _rows(self, start: float, end: float) -> Iterator[Gap]:
        if end - start < LEAST_S:
            return
        near = [mark for mark in self._marks if start - BEFORE_S <= mark.at < end - LEAST_S]
        begun = [mark for mark in near if mark.at <= start + LEAST_S]
        inner = [mark for mark in near if mark.at > start + LEAST_S]
        first: Cause = (begun[-1:] or inner[:1] or [Mark(start, "stream_absent")])[0].cause
        marks = [Mark(start, first), *inner, Mark(end, first)]
        merged = [marks[0]]
        for mark in marks[1:-1]:
            if mark.cause != merged[-1].cause:
                merged.append(mark)
        for one, following in pairwise([*merged, marks[-1]]):
            yield self._gap(one.at, following.at, one.cause)

    def _gap(self, start: float, end: float, cause: Cause) -> Gap:
        return Gap(
            camera=self.camera, start=rfc3339(start), end=rfc3339(end), seconds=round(end - start, 3), cause=cause
        )
