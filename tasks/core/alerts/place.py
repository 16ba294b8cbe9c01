"""Zones and lines in a picture, in parts of its width and height."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.core.options import Section

Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Point = tuple[Part, Part]


def inside(point: tuple[float, float], polygon: Sequence[tuple[float, float]]) -> bool:
    """Is the point in the polygon (even-odd rule)?"""
    x, y = point
    found = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            found = not found
    return found


def _area(polygon: tuple[Point, ...]) -> tuple[Point, ...]:
    pairs = zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    if abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) < 1e-6:
        raise ValueError("its points lie on one line: it holds nothing")
    return polygon


def _in_parts(value: Any) -> Any:
    flat = [each for point in value for each in point] if _is_points(value) else []
    if any(each > 1 for each in flat):
        raise ValueError("coordinates are parts of width and height, 0 to 1, not pixels: x 320 of 640 is 0.5")
    return value


def _is_points(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(point, list | tuple) and all(isinstance(each, int | float) for each in point) for point in value
    )


Zone = Annotated[
    tuple[Point, ...], Field(min_length=3, max_length=64), AfterValidator(_area), BeforeValidator(_in_parts)
]


class Line(Section):
    """A line across the picture; who looks from its first point to its second has a left and a right."""

    points: Annotated[tuple[Point, Point], BeforeValidator(_in_parts)] = Field(description="Its two ends")
    to: Literal["left", "right", "any"] = Field("any", description="Side to which it is crossed")

    def side(self, point: tuple[float, float]) -> float:
        """Distance from the line, parts of the frame: negative on the left, positive on the right."""
        (x1, y1), (x2, y2) = self.points
        length = max(1e-9, hypot(x2 - x1, y2 - y1))
        return ((x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)) / length

    def between(self, one: tuple[float, float], other: tuple[float, float]) -> bool:
        """Does the way from one point to the other lead between the line's ends?"""
        a, b = self.side(one), self.side(other)
        if a == b:
            return False
        share = a / (a - b)
        x, y = one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])
        (x1, y1), (x2, y2) = self.points
        along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / max(1e-9, (x2 - x1) ** 2 + (y2 - y1) ** 2)
        return 0 <= share <= 1 and 0 <= along <= 1
