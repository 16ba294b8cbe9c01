"""Boxes of two backends are the same but for rounding."""

from __future__ import annotations

import pytest

from benchmarks._detectors import OPTIONS
from benchmarks.yolo import same_boxes
from tasks.core.schema import Box


def box(x: float, confidence: float = 0.8, name: str = "car") -> Box:
    return Box(xyxy=(x, 10, x + 50, 60), class_=name, confidence=confidence)


def test_rounding_and_another_order_make_no_difference() -> None:
    same_boxes("side", [[box(100.4, 0.801), box(0)], []], [[box(0), box(100)], []])


def test_a_box_at_the_threshold_may_be_missing() -> None:
    same_boxes("side", [[]], [[box(0, OPTIONS.confidence + 0.005)]])


@pytest.mark.parametrize(
    "found", [[], [box(5)], [box(0, 0.7)], [box(0, name="bus")], [box(0), box(200)], [box(0), box(0)]]
)
def test_a_missing_moved_or_added_box_is_a_failure(found: list[Box]) -> None:
    with pytest.raises(AssertionError, match="boxes differ"):
        same_boxes("side", [found], [[box(0)]])


def test_a_missing_frame_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="boxes for 1 frames, not 2"):
        same_boxes("side", [[]], [[], []])
