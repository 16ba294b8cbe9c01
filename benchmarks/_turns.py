"""Sides of a comparison, timed in turn within one run: on a noisy machine their ratios hold where seconds do not."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks._results import median

Output = TypeVar("Output")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Side(Generic[Output]):
    """One way to do the work. `prepare` runs before each `run`, outside of its time."""

    run: Callable[[], Output]
    prepare: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Took:
    """Seconds of one run; CPU seconds are those of this process and of its children that have ended."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Times:
    """All rounds of one side, in order."""

    rounds: Sequence[Took]

    @property
    def wall_s(self) -> float:
        return median(took.wall_s for took in self.rounds)

    @property
    def cpu_s(self) -> float:
        return median(took.cpu_s for took in self.rounds)

    def wall_ratio(self, other: Times) -> float:
        """How many times as long as the other's: the median over rounds, each of which compares neighbours in time."""
        return median(mine.wall_s / its.wall_s for mine, its in zip(self.rounds, other.rounds, strict=True))

    def cpu_ratio(self, other: Times) -> float:
        """The same for CPU seconds."""
        return median(mine.cpu_s / its.cpu_s for mine, its in zip(self.rounds, other.rounds, strict=True))


def alternate(sides: Mapping[str, Side[Output]], repeat: int, check: Callable[[str, Output], None]) -> dict[str, Times]:
    """Times of each side over `repeat` rounds, after one round that does not count.

    Every round runs every side once, every other round in the opposite order. `check` sees each side's output of every
    round and raises AssertionError for one that is wrong; it is not timed.
    """
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for number in range(repeat + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            sides[name].prepare()
            output, seconds = timed(sides[name].run)
            check(name, output)
            del output
            if number:
                took[name].append(seconds)
    return {name: Times(rounds) for name, rounds in took.items()}


def timed(run: Callable[[], Output]) -> tuple[Output, Took]:
    """What one run gives, and what it took."""
    cpu_s, started = cpu_seconds(), time.perf_counter()
    output = run()
    wall_s = time.perf_counter() - started
    return output, Took(wall_s, cpu_seconds() - cpu_s)


def cpu_seconds() -> float:
    """CPU seconds so far of this process and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)
