"""Which boxes of a frame continue which objects: centre distance and overlap, assigned by the Hungarian method."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from tasks.core.tracking.records import Place, Sight, Track

SAME_OBJECT_IOU: Final = 0.75
"""Boxes of two classes that overlap more are one object with two opinions."""

REACH: Final = 0.5
"""Distance between centres, in sizes of the object, that needs no time: how far boxes jitter."""
PACE: Final = 1.5
"""Sizes per second that an object may go beyond what its speed foretells. A walker goes 1.7."""
FARTHEST: Final = 1.5
"""Sizes, whatever the time: an object that was lost is found again near where it was lost, or not at all."""
BLIND_PACE_S: Final = 10.0
"""As long as nobody looked, an object may have gone at its pace; longer, and it may be another."""
OTHER_CLASS_IOU: Final = 0.75
"""A box of another class continues an object only where it overlaps so much."""
SAME_CLASS_IOU: Final = 0.5
"""A box of its class that overlaps so much continues an object, however small both are."""
OTHER_CLASS: Final = 0.5
"""Added to the cost."""
UNMATCHED: Final = 2.05
"""Cost of an object without a box: more than any box costs that fits, less than to push others off theirs."""
PREDICT_S: Final = 1.0
"""An object is taken to keep its speed for so long."""


def iou(one: Place, other: Place) -> float:
    """Intersection over union, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def without_doubles(sights: Sequence[Sight]) -> list[Sight]:
    """The sights, surest first, without those that another class has found as well."""
    kept: list[Sight] = []
    for sight in sorted(sights, key=lambda each: (-each.confidence, each.place)):
        if all(iou(sight.place, other.place) < SAME_OBJECT_IOU for other in kept):
            kept.append(sight)
    return kept


def assign(tracks: Sequence[Track], sights: Sequence[Sight], time: float, aspect: float) -> dict[int, int]:
    """{track: sight} by position in both lists; `aspect` is the frame's width over its height."""
    if not tracks or not sights:
        return {}
    never = 1e6
    costs = np.full((len(tracks), len(sights) + len(tracks)), never)
    for row, track in enumerate(tracks):
        costs[row, len(sights) + row] = UNMATCHED
        for column, sight in enumerate(sights):
            cost = _cost(track, sight, time, aspect)
            if cost is not None:
                costs[row, column] = cost
    rows, columns = linear_sum_assignment(costs)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if column < len(sights)}


def _cost(track: Track, sight: Sight, time: float, aspect: float) -> float | None:
    """0 to 2, lower fits better; None where the sight cannot be this object."""
    ahead = min(time - track.last.time, PREDICT_S)
    expected = _moved(track.last.place, track.velocity[0] * ahead, track.velocity[1] * ahead)
    overlap = max(iou(expected, sight.place), iou(track.last.place, sight.place))
    same = sight.class_ in track.votes
    if not same and overlap < OTHER_CLASS_IOU:
        return None
    size = max(1e-6, (_size(track.last.place, aspect) + _size(sight.place, aspect)) / 2)
    away = min(_distance(expected, sight.place, aspect), _distance(track.last.place, sight.place, aspect)) / size
    blind = track.blind_s if track.blind_s <= BLIND_PACE_S else 0.0
    looked = max(0.0, time - track.last.time - track.blind_s)
    reach = min(REACH + PACE * looked, FARTHEST) + 2 * PACE * blind
    if away > reach and overlap < SAME_CLASS_IOU:
        return None
    return min(1.0, away / reach) + (1 - overlap) + (0 if same else OTHER_CLASS)


def _moved(place: Place, right: float, down: float) -> Place:
    return place[0] + right, place[1] + down, place[2] + right, place[3] + down


def _area(place: Place) -> float:
    return max(0.0, place[2] - place[0]) * max(0.0, place[3] - place[1])


def _size(place: Place, aspect: float) -> float:
    """In parts of the frame's height: the width, or half of the height where that is more, so that people who stand
    and cars that drive have the same pace."""
    return max((place[2] - place[0]) * aspect, (place[3] - place[1]) / 2)


def _distance(one: Place, other: Place, aspect: float) -> float:
    right = (one[0] + one[2] - other[0] - other[2]) / 2 * aspect
    down = (one[1] + one[3] - other[1] - other[3]) / 2
    return hypot(right, down)
