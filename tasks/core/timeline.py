"""The way from container time to media time, for sound, frames, clips and tables alike.

Most files have one clock: media time is container time minus the start of the earliest stream. Recordings appended to
each other, recorders that start anew and clocks that jump or wrap (33 bits in MPEG) make several takes; each begins in
media time where the one before it ends. As the same container time may then come twice, a packet's take is told by its
place in the stream and not by its time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tasks.core.packet_meter import FORWARD_S
from tasks.core.schema import MediaInfo, Take

MAX_TIMESTAMP_ERROR_S = Fraction(1, 2000)
"""Containers round timestamps to their time base (Matroska: 1 ms), so a frame may be stamped just after its time."""


@dataclass(frozen=True)
class Run:
    """A stretch of one stream over which its clock runs on, in container time."""

    stream: int
    packet: int
    """Ordinal of its first packet in the stream."""
    order: int
    """Ordinal of its first packet in the file."""
    first: float
    end: float
    last: int
    """Ordinal of its last packet in the file."""

    def overlies(self, other: Run) -> bool:
        """Whether it goes on in the file while the other does: then the other's step is no step of the file's clock."""
        return self.stream != other.stream and self.order <= other.order and 2 * self.last >= other.order + other.last


@dataclass
class _Take:
    first: float
    end: float
    runs: list[Run] = field(default_factory=list)

    def add(self, run: Run) -> None:
        self.first, self.end = min(self.first, run.first), max(self.end, run.end)
        self.runs.append(run)

    def suits(self, run: Run) -> bool:
        """Whether the run's clock may be this take's."""
        return self.first - FORWARD_S <= run.first <= self.end + FORWARD_S

    def reached(self, run: Run) -> float | None:
        """The end of what the run's stream has in this take so far."""
        return max((other.end for other in self.runs if other.stream == run.stream), default=None)


@dataclass(frozen=True)
class TimeLine:
    """Media time of every run: `takes` is empty where container time minus `start_offset_s` is right for all."""

    start_offset_s: float
    takes: list[Take]
    shifts: dict[tuple[int, int], float]
    """Container time minus media time of each run, by stream and first packet."""


def lay_out(runs: Sequence[Run], *, always: bool = False) -> TimeLine:
    """Runs of all streams that are analysed, one after another on one time line; there is at least one.

    A stream that steps alone has paused, or is badly stamped: it starts no take. `always` names the take also where
    there is but one: of a file that ffmpeg cannot read by itself.
    """
    takes: list[_Take] = []
    for run in sorted(runs, key=lambda run: run.order):
        if takes and _goes_on(takes, run):
            takes[-1].add(run)
        else:
            takes.append(_Take(run.first, run.end, [run]))
    end_s, made = 0.0, []
    shifts: dict[tuple[int, int], float] = {}
    for take in takes:
        shift_s = take.first - end_s
        made.append(Take(start=end_s, shift_s=shift_s, packets=_firsts(take.runs)))
        shifts |= {(run.stream, run.packet): shift_s for run in take.runs}
        end_s = take.end - shift_s
    return TimeLine(takes[0].first, made if always or len(made) > 1 else [], shifts)


def _goes_on(takes: Sequence[_Take], run: Run) -> bool:
    """Does the run belong to the last of the takes?"""
    take = takes[-1]
    before = take.reached(run)
    if before is None:
        begins = len(takes) == 1 and run.packet == 0  # streams of one recording, however far apart they start
        return begins or take.suits(run)
    return (run.first >= before and take.suits(run)) or any(other.overlies(run) for other in take.runs)


def _firsts(runs: Sequence[Run]) -> dict[int, int]:
    firsts: dict[int, int] = {}
    for run in runs:
        firsts.setdefault(run.stream, run.packet)
    return firsts


def on_one_clock(packets: Iterator[Any], info: MediaInfo, stream: int) -> Iterator[Any]:
    """A stream's packets, read from the start of the file, with times that all count by the clock of its first take."""
    if not info.takes:
        yield from packets
        return
    starts = sorted((take.packets[stream], take.shift_s) for take in info.takes if stream in take.packets)
    ordinal = move = 0
    for packet in packets:
        if packet.size:
            if starts and ordinal >= starts[0][0]:
                move = round(Fraction(starts.pop(0)[1] - info.start_offset_s) / packet.time_base)
            ordinal += 1
            if move:
                packet.pts = None if packet.pts is None else packet.pts - move
                packet.dts = None if packet.dts is None else packet.dts - move
        yield packet


class Clock:
    """Between media time (seconds) and the timestamps (ticks) of a stream that is on one clock."""

    def __init__(self, time_base: Fraction, info: MediaInfo) -> None:
        self._tick = time_base
        self._offset = Fraction(round(info.start_offset_s * 1_000_000), 1_000_000)
        self._tolerance = min(time_base / 2, MAX_TIMESTAMP_ERROR_S)

    def media_time(self, pts: int) -> Fraction:
        return pts * self._tick - self._offset

    def shown_at(self, pts: int) -> float:
        return max(0.0, float(self.media_time(pts)))

    def last_at(self, seconds: Fraction) -> int:
        """Largest timestamp that is displayed at this media time."""
        return math.floor((seconds + self._offset + self._tolerance) / self._tick)
