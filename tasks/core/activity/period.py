"""A stretch of time as the people of a place count it: days of 23, 24 or 25 hours, and hours that come twice."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Final

from pydantic import Field, model_validator

from tasks.core.alerts.clock import TimeZone, unix_of, zone
from tasks.core.schema import Record

STEP_S: Final = 900
"""Offsets from UTC are multiples of a quarter of an hour, so local hours begin at one."""
LONGEST_S: Final = 370 * 86400.0


class Period(Record):
    """From one moment until before another; Unix times."""

    begin: float = Field(ge=0)
    end: float
    timezone: TimeZone = "UTC"

    @model_validator(mode="after")
    def _in_order(self) -> Period:
        if not self.begin < self.end <= self.begin + LONGEST_S:
            raise ValueError("it ends after it begins, and is 370 days long at most")
        return self

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @cached_property
    def hours(self) -> tuple[float, ...]:
        """When each local hour begins, the first with the period; the last entry is the period's end.

        An hour whose clock is set back within it lasts until its end comes: 1.5 hours where the step is half an hour.
        """
        place = zone(self.timezone)
        first = self.begin - self.begin % STEP_S + STEP_S
        quarters = (first + STEP_S * n for n in range(int(self.seconds // STEP_S) + 1))
        starts = (at for at in quarters if at < self.end and datetime.fromtimestamp(at, place).minute == 0)
        return (self.begin, *starts, self.end)

    @cached_property
    def days(self) -> tuple[float, ...]:
        """When each local day begins, the first with the period; the last entry is the period's end."""
        day = datetime.fromtimestamp(self.begin, zone(self.timezone)).date()
        starts = []
        while (at := midnight(day := day + timedelta(days=1), self.timezone)) < self.end:
            starts.append(at)
        return (self.begin, *starts, self.end)

    def utc_days(self, before: int = 0) -> list[date]:
        """The days, UTC, that it lies in, and so many before them: names of windows and rows have them."""
        utc = zone("UTC")
        first = datetime.fromtimestamp(self.begin, utc).date() - timedelta(days=before)
        last = datetime.fromtimestamp(self.end, utc).date()
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]

    def clip(self, start: float, end: float) -> tuple[float, float] | None:
        """The part of an interval that lies in the period; None where there is none."""
        start, end = max(start, self.begin), min(end, self.end)
        return (start, end) if start < end else None

    def holds(self, at: float) -> bool:
        return self.begin <= at < self.end

    def local(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, zone(self.timezone))


def midnight(day: date, timezone: str) -> float:
    """When a local day begins; where the clock skips midnight, after the step."""
    return unix_of(day, time(0), timezone)


def place(edges: tuple[float, ...], at: float) -> int:
    """Which stretch between edges a moment is in; the first or last for one that is in none."""
    return min(max(bisect_right(edges, at) - 1, 0), len(edges) - 2)


def shares(edges: tuple[float, ...], start: float, end: float) -> Iterator[tuple[int, float]]:
    """The stretches that an interval lies in, and how many seconds of it each holds."""
    number = place(edges, start)
    while number < len(edges) - 1 and edges[number] < end:
        held = min(end, edges[number + 1]) - max(start, edges[number])
        if held > 0:
            yield number, held
        number += 1
