"""Plots as plain numbers: what a template needs to draw them as SVG. Places are pixels, y downwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

COLORS = ("#4c8dff", "#f2762e", "#22b07d", "#d65db1", "#e0a800", "#8f6bea", "#18a9c9", "#e5484d", "#8fbf26", "#a8683a")
WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
MOST_TICKS = 6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Line:
    name: str
    color: str
    path: str
    """Data of an SVG path."""
    dots: Points = ()


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    color: str
    title: str


@dataclass(frozen=True)
class Chart:
    """One plot with its axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    """Colour by name."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


@dataclass(frozen=True)
class Scale:
    """From values to pixels; `log` takes positive values only."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    dots: bool = True,
    steps: bool = False,
) -> Chart:
    """Lines over one pair of axes. Raises ValueError when there are no points."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    if not xs:
        raise ValueError(f"nothing to draw in {title!r}")
    across = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    bottom = min(ys) / 1.2 if log_y else 0.0
    up = Scale(bottom, max(ys) * (1.2 if log_y else 1.05) or 1.0, HEIGHT - BOTTOM, TOP, log_y)
    lines, legend = [], {}
    for number, (name, points) in enumerate(series.items()):
        color = legend[name] = COLORS[number % len(COLORS)]
        placed = [(across(x), up(y)) for x, y in points]
        lines.append(Line(name, color, _path(placed, steps=steps), placed if dots else ()))
    x_ticks = sorted(set(xs)) if log_x else ticks(across.low, across.high)
    return Chart(
        title,
        x_label,
        y_label,
        [Tick(across(value), f"{value:g}") for value in x_ticks],
        [Tick(up(value), f"{value:g}") for value in (log_ticks if log_y else ticks)(up.low, up.high)],
        lines,
        legend=legend if len(legend) > 1 else {},
    )


def stacked_rows(
    title: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, float]]]], x_label: str, *, row_px: int = 22
) -> Chart:
    """Horizontal bars: each row has a label and (name, start, end) pieces; equal names have equal colours.

    Rows of one piece each, named as the row, have one colour and no legend.
    """
    far = max((end for _, pieces in rows for _, _, end in pieces), default=0.0) or 1.0
    left = LEFT + 60
    across = Scale(0.0, far, left, WIDTH - RIGHT)
    names = list(dict.fromkeys(name for _, pieces in rows for name, _, _ in pieces))
    plain = all(name == label for label, pieces in rows for name, _, _ in pieces)
    legend = {name: COLORS[0 if plain else number % len(COLORS)] for number, name in enumerate(names)}
    bars, labels = [], []
    for number, (label, pieces) in enumerate(rows):
        top = TOP + number * row_px
        labels.append(Tick(top + row_px / 2, label))
        for name, start, end in pieces:
            shown = f"{label}, {name}: {end - start:.3g} from {start:.3g}"
            width = max(0.5, across(end) - across(start))
            bars.append(Bar(across(start), top + 1.5, round(width, 2), max(1.0, row_px - 3), legend[name], shown))
    height = TOP + len(rows) * row_px + BOTTOM
    x_ticks = [Tick(across(value), f"{value:g}") for value in ticks(0.0, far)]
    return Chart(title, x_label, "", x_ticks, labels, (), bars, {} if plain else legend, WIDTH, height, left)


def ticks(low: float, high: float) -> list[float]:
    """At most six round numbers in an interval."""
    if not high > low:
        return [low]
    rough = (high - low) / MOST_TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in an interval of positive numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [float(f"{value:.6g}") for value in found if low <= value <= high]


def _path(points: Points, *, steps: bool) -> str:
    words: list[str] = []
    for number, (x, y) in enumerate(points):
        if number and steps:
            words.append(f"H{x}V{y}")
        else:
            words.append(f"{'L' if number else 'M'}{x} {y}")
    return "".join(words)
