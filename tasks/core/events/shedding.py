"""When a machine falls behind, it samples less, by a rule that anyone can repeat.

Level 0 samples as asked, each level above samples half as often. The level rises at once, when what waits would be done
later than the limit allows; it falls one step at a time, when that has stayed well below the limit for a while.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction

from tasks.core.options import AnalyzeOptions

CALM_S = 10.0
"""How long the wait must stay below half of the limit before the level falls by one."""

ASSUMED_S = 2.0
"""Seconds of one object before one is through: a window of 3 s with a nano model on a core."""

WEIGHT = 0.2
"""Of the latest object in the moving average of seconds per object."""


def ladder(options: AnalyzeOptions, levels: int) -> list[AnalyzeOptions]:
    """The options of each level: frames.fps as asked, halved, quartered and so on."""
    asked = Fraction(str(options.frames.fps))
    return [
        options.model_copy(update={"frames": options.frames.model_copy(update={"fps": float(asked / 2**level)})})
        for level in range(levels)
    ]


class Shedding:
    """The level that new work is given; safe for threads."""

    def __init__(self, limit_s: float, levels: int, in_flight: int, clock: Callable[[], float]) -> None:
        """`limit_s` is the longest wait that is no falling behind, `levels` how many there are, 1 for never less."""
        self.level = 0
        self.object_s = ASSUMED_S
        self._limit_s = limit_s
        self._highest = levels - 1
        self._in_flight = in_flight
        self._clock = clock
        self._busy_since = clock()
        self._lock = threading.Lock()

    def took(self, seconds: float) -> None:
        """An object went through in so many seconds."""
        with self._lock:
            self.object_s += WEIGHT * (seconds - self.object_s)

    def wait_s(self, waiting: int) -> float:
        """How long what comes next will wait when so many objects wait before it."""
        return waiting * self.object_s / self._in_flight

    def choose(self, waiting: int) -> int:
        """The level for an object that comes behind so many others."""
        with self._lock:
            now, expected_s = self._clock(), self.wait_s(waiting)
            if expected_s > self._limit_s / 2:
                self._busy_since = now
            if expected_s > self._limit_s:
                wanted = 1 + math.floor(math.log2(expected_s / self._limit_s))
                self.level = max(self.level, min(self._highest, wanted))
            elif self.level and now - self._busy_since >= CALM_S:
                self.level -= 1
                self._busy_since = now
            return self.level


def rates(options: Sequence[AnalyzeOptions]) -> str:
    """The ladder for a person: "2, 1 or 0.5"."""
    shown = [f"{each.frames.fps:g}" for each in options]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
