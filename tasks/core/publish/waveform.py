"""The shape of a sound, small enough to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def peaks(samples: NDArray[np.float32], count: int = 1200) -> list[float]:
    """Largest amplitude (0 to 1) of each of `count` even stretches of a mono signal; fewer where it is shorter."""
    if len(samples) == 0:
        return []
    edges = np.linspace(0, len(samples), min(count, len(samples)) + 1).astype(np.int64)[:-1]
    loudest = np.maximum(np.maximum.reduceat(samples, edges), -np.minimum.reduceat(samples, edges))
    return [round(float(level), 4) for level in np.clip(np.nan_to_num(loudest), 0.0, 1.0)]


def resample(levels: Sequence[float], count: int) -> list[float]:
    """`count` levels over the same time: the largest of those that fall together, repeated where there are too few."""
    if not levels:
        return [0.0] * count
    size = len(levels)
    return [
        max(levels[at * size // count : max((at + 1) * size // count, at * size // count + 1)]) for at in range(count)
    ]


def clock(seconds: float, *, tenths: bool = False) -> str:
    """`1:02:03`, `2:03` or, with tenths, `2:03.4`."""
    steps = round(max(seconds, 0.0) * 10) if tenths else int(max(seconds, 0.0)) * 10
    minutes, rest = divmod(steps, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{rest // 10:02d}" if hours else f"{minutes}:{rest // 10:02d}"
    return f"{text}.{rest % 10}" if tenths else text
