"""Whether the sides of a comparison did the same work: the words that were said, and the boxes of which they are sure.

No side is the measure of another's words: each is held against what was said. Boxes are compared one by one, in the
same frame. Near the threshold of detection the least change of a picture, a backend or a machine makes a box come or
go, so boxes near it are nobody's fault: one that a side is sure of must be there for the other, sure or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._sides import CONFIDENCE, Box, Found
from benchmarks._word_errors import word_errors

MARGIN = 0.15
SURE = CONFIDENCE + MARGIN
SAME_IOU = 0.5
WITHOUT_PARTNER = 0.02
"""Share of a side's sure boxes that another may lack: stored frames are JPEG, and two classes may be close."""
FEW = 2
"""As many may always be lacking."""


def check_words(name: str, found: Found, text: str, wrong: float) -> None:
    """Raises AssertionError where more than the share `wrong` of the text's words are missing, added or other ones."""
    errors, words = word_errors(text, " ".join(found.words))
    heard = " ".join(found.words)[:500]
    assert errors <= wrong * words, f"{name}: {errors} errors in {words} words, at most {wrong:.0%} may be: {heard}"


def check_boxes(name: str, found: Found, other: Found) -> None:
    """Raises AssertionError where one side is sure of boxes that the other does not have."""
    for one, two, lacking in ((found, other, "only there"), (other, found, "missing there")):
        sure = sum(box[2] >= SURE for box in one.boxes)
        alone = without_partner(one.boxes, two.boxes)
        most = max(FEW, WITHOUT_PARTNER * sure)
        assert len(alone) <= most, f"{name}: {len(alone)} of {sure} sure boxes are {lacking}, first {alone[0]}"


def without_partner(boxes: Sequence[Box], others: Sequence[Box]) -> list[Box]:
    """Boxes of confidence SURE or more to which no other of the same frame and class corresponds, one to one."""
    free: dict[tuple[int, str], list[Box]] = {}
    for box in others:
        free.setdefault((box[0], box[1]), []).append(box)
    alone = []
    for box in sorted((box for box in boxes if box[2] >= SURE), key=lambda box: -box[2]):
        near = free.get((box[0], box[1]), [])
        best = max(near, key=lambda other: iou(box[3:], other[3:]), default=None)
        if best is None or iou(box[3:], best[3:]) < SAME_IOU:
            alone.append(box)
        else:
            near.remove(best)
    return alone


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection of two boxes over their union; xyxy."""
    left, top, right, bottom = one
    other_left, other_top, other_right, other_bottom = other
    width, height = min(right, other_right) - max(left, other_left), min(bottom, other_bottom) - max(top, other_top)
    both = max(0.0, width) * max(0.0, height)
    union = (right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top) - both
    return both / union if union else 0.0
