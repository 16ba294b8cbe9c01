"""Geometry of a report's plots: positions in percent, so that they fit any screen and need no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from tasks.core.activity.period import Period, place
from tasks.core.activity.rows import Activity
from tasks.core.activity.tally import merged
from tasks.core.publish.timeline import Bar, Chart, Tick, round_step

HOURLY_S: Final = 3.5 * 86400
"""Longer periods are drawn by day."""
SERIES: Final = 7
"""Classes with a colour of their own; the others share one."""
OTHER: Final = "other"
FINEST: Final = 1 / 1500
"""Of the period: what lies closer is drawn as one."""
LEAST: Final = 0.12
"""Percent: what is shorter is drawn so long, to be seen."""


def edges(period: Period) -> tuple[float, ...]:
    """Where the bars of a plot begin, and where the last one ends."""
    return period.hours if period.seconds <= HOURLY_S else period.days


def ticks(period: Period, most: int = 12) -> list[Tick]:
    """Local hours, or days where there are many."""
    hourly = period.seconds <= HOURLY_S
    starts = [at for at in edges(period)[:-1] if not hourly or period.local(at).minute == 0]
    step = next((n for n in ((1, 2, 3, 4, 6, 12, 24) if hourly else (1, 2, 7, 14, 28)) if len(starts) / n <= most), 24)
    shown = [at for at in starts if period.local(at).hour % step == 0] if hourly else starts[::step]
    several_days = period.seconds > 26 * 3600
    names = "%d %b" if not hourly else "%d %b %H:%M" if several_days and step >= 12 else "%H:%M"
    return [Tick(at, f"{period.local(one):{names}}") for one in shown if (at := _percent(period, one)) <= 97]


def visits(activity: Activity, names: Sequence[str]) -> Chart:
    """Visits that begin in each hour or day, stacked by class; classes without a colour are one series."""
    found = edges(activity.period)
    counts: dict[str, list[float]] = {name: [0.0] * (len(found) - 1) for name in (*names, OTHER)}
    for row in activity.class_hours:
        counts[row.class_ if row.class_ in names else OTHER][place(found, row.start)] += row.visits
    if not any(counts[OTHER]):
        del counts[OTHER]
    return _stacked(activity.period, found, counts)


def speech(activity: Activity) -> Chart:
    """Minutes of speech in each hour or day, over all cameras."""
    found = edges(activity.period)
    minutes = [0.0] * (len(found) - 1)
    for row in activity.hours:
        minutes[place(found, row.start)] += row.speech_s / 60
    return _stacked(activity.period, found, {"speech": minutes})


def strip(period: Period, spans: Iterable[tuple[float, float]]) -> list[Bar]:
    """Stretches of time along the period."""
    bars = []
    for start, end in merged(spans, period.seconds * FINEST):
        if span := period.clip(start, max(end, start + 1e-3)):
            x, width = _percent(period, span[0]), 100 * (span[1] - span[0]) / period.seconds
            bars.append(Bar(min(x, 100 - LEAST), round(max(width, LEAST), 3)))
    return bars


def _stacked(period: Period, found: tuple[float, ...], counts: dict[str, list[float]]) -> Chart:
    tallest = max((sum(values) for values in zip(*counts.values(), strict=True)), default=0.0) if counts else 0.0
    step = round_step(tallest)
    top = max(step, math.ceil(tallest / step) * step)
    below = [0.0] * (len(found) - 1)
    series = []
    for name, values in counts.items():
        bars = []
        for number, value in enumerate(values):
            if not value:
                continue
            x, width = _percent(period, found[number]), 100 * (found[number + 1] - found[number]) / period.seconds
            height = 100 * value / top
            label = f"{period.local(found[number]):%a %d %b %H:%M %Z}: {value:.4g} {name}"
            bars.append(
                Bar(
                    x + width * 0.08,
                    round(width * 0.84, 3),
                    round(100 - below[number] - height, 3),
                    round(height, 3),
                    label=label,
                )
            )
            below[number] += height
        series.append((name, bars))
    lines = [Tick(round(100 - 100 * value / top, 2), str(value)) for value in range(0, top + 1, step)]
    return Chart(series, top, lines)


def _percent(period: Period, at: float) -> float:
    return round(100 * (at - period.begin) / period.seconds, 3)
