"""Geometry of the report's timeline and chart: positions in percent of the width, so that they fit any screen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.core.publish.waveform import clock, resample
from tasks.core.schema import Detections, Interval

_STEPS: Final = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)

Counts = list[tuple[float, Counter[str]]]
"""Of each sampled frame its time and how often each class is in it."""


@dataclass(frozen=True)
class Bar:
    """A rectangle in percent of the track's width (`x`, `width`) and height; `weight` from 0 to 1 is its opacity."""

    x: float
    width: float
    y: float = 0.0
    height: float = 100.0
    weight: float = 1.0
    label: str = ""


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Stacked bars of mean boxes per frame. `series` has one list of bars per class, in the order given."""

    series: list[tuple[str, list[Bar]]]
    top: int
    """Value at the top of the chart."""
    lines: list[Tick]
    """Horizontal grid lines: percent from the top, and value."""


def count_boxes(detections: Detections) -> Counts:
    """Boxes of each class in each sampled frame."""
    return [(frame.time, Counter(box.class_ for box in frame.boxes)) for frame in detections.frames]


def ticks(duration_s: float, most: int = 8) -> list[Tick]:
    """Round times over the media, at most `most`, none so late that its label would leave the track."""
    step = next((step for step in _STEPS if duration_s / step <= most), math.ceil(duration_s / most / 3600) * 3600)
    count = int(duration_s / step) + 1 if duration_s > 0 else 1
    places = [(100 * at * step / max(duration_s, 1e-9), at * step) for at in range(count)]
    return [Tick(round(place, 3), clock(time, tenths=step < 1)) for place, time in places if place <= 96]


def spans(intervals: Iterable[Interval], duration_s: float) -> list[Bar]:
    """One bar per interval, at least 0.15 % wide so that a short one is still seen."""
    bars = []
    for interval in intervals:
        start, end = (min(max(at / max(duration_s, 1e-9), 0.0), 1.0) * 100 for at in (interval.start, interval.end))
        bars.append(Bar(round(start, 3), round(max(end - start, 0.15), 3), label=clock(interval.start)))
    return bars


def density(counts: Counts, name: str, duration_s: float, bins: int = 240) -> list[Bar]:
    """Where a class is seen: bars weighted by the mean count per frame, relative to the busiest stretch."""
    edges = _edges(counts, duration_s, bins)
    means = [_mean(counts, frames, [name]) for _, _, frames in edges]
    most = max(means, default=0.0)
    return [
        Bar(x, width, weight=round(0.25 + 0.75 * mean / most, 3))
        for (x, width, _), mean in zip(edges, means, strict=True)
        if mean > 0
    ]


def chart(counts: Counts, names: Sequence[str], duration_s: float, bins: int = 120) -> Chart:
    """Mean boxes per frame over time, stacked: `names` each for itself, all other classes as `other`."""
    edges = _edges(counts, duration_s, bins)
    others = sorted({name for _, tally in counts for name in tally} - set(names))
    groups = [(name, [name]) for name in names] + ([("other", others)] if others else [])
    values = {label: [_mean(counts, frames, members) for _, _, frames in edges] for label, members in groups}
    tallest = max((sum(column) for column in zip(*values.values(), strict=True)), default=0.0)
    step = round_step(tallest)
    top = max(step, math.ceil(tallest / step - 1e-9) * step)
    series: list[tuple[str, list[Bar]]] = []
    floor = [0.0] * len(edges)
    for label, column in values.items():
        bars = []
        for at, ((x, width, _), value) in enumerate(zip(edges, column, strict=True)):
            if value <= 0:
                continue
            floor[at] += value
            bars.append(
                Bar(x, round(width * 0.86, 3), round(100 - 100 * floor[at] / top, 2), round(100 * value / top, 2))
            )
        series.append((label, bars))
    lines = [Tick(round(100 - 100 * value / top, 2), str(value)) for value in range(0, top + 1, step)]
    return Chart(series, top, lines)


def wave(levels: Sequence[float], count: int = 600) -> str:
    """SVG path of a waveform in a box of `count` x 100, mirrored about its middle; empty without levels."""
    if not levels:
        return ""
    heights = resample(levels, count)
    loudest = max(max(heights), 0.02)
    halves = [46 * height / loudest + 1 for height in heights]
    return "".join(f"M{at + 0.5:g} {50 - half:.1f}V{50 + half:.1f}" for at, half in enumerate(halves))


def _edges(counts: Counts, duration_s: float, bins: int) -> list[tuple[float, float, list[int]]]:
    """(x, width, positions of frames) of each stretch with frames: one per frame, or `bins` where there are more."""
    if not counts:
        return []
    times = [time for time, _ in counts]
    span = max(duration_s, times[-1], 1e-9)
    if len(times) > bins:
        found: dict[int, list[int]] = {}
        for at, time in enumerate(times):
            found.setdefault(min(int(time / span * bins), bins - 1), []).append(at)
        return [(round(100 * place / bins, 3), round(100 / bins, 3), members) for place, members in found.items()]
    starts = [100 * time / span for time in times]
    usual = sorted(b - a for a, b in zip(starts, [*starts[1:], 100.0], strict=True))[len(starts) // 2]
    ends = [min(following, start + 2 * usual) for start, following in zip(starts, [*starts[1:], 100.0], strict=True)]
    return [
        (round(start, 3), round(max(end - start, 0.1), 3), [at])
        for at, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _mean(counts: Counts, frames: list[int], names: Sequence[str]) -> float:
    return sum(counts[at][1].get(name, 0) for at in frames for name in names) / len(frames)


def round_step(tallest: float) -> int:
    """1, 2 or 5 times a power of ten that gives at most five grid lines."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if tallest / (factor * scale) <= 5:
                return factor * scale
        scale *= 10
