"""Words are held against what was said; of boxes those near the threshold may differ, and no others."""

from __future__ import annotations

import pytest

from benchmarks._agreement import check_boxes, check_words, iou, without_partner
from benchmarks._sides import Box, Found, words

SAID = "The red circle moves right. A green square waits, right?"


def box(confidence: float, *, frame: int = 0, label: str = "person", left: float = 0.0) -> Box:
    return (frame, label, confidence, left, 0.0, left + 100.0, 100.0)


def crowd(count: int, confidence: float = 0.9) -> list[Box]:
    return [box(confidence, frame=frame) for frame in range(count)]


def test_words_are_compared_without_case_and_punctuation() -> None:
    check_words("script", Found(1.0, words=words(SAID)), SAID, 0.0)


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("the red circle moves right a green square waits", 1),
        ("the red circle moves right right a green square waits right", 1),
        ("the bed circle moves right a green square waits white", 2),
        ("", 10),
    ],
)
def test_words_missing_added_or_changed_are_errors(heard: str, errors: int) -> None:
    found = Found(1.0, words=words(heard))
    check_words("script", found, SAID, errors / 10)
    with pytest.raises(AssertionError, match=f"script: {errors} errors in 10 words"):
        check_words("script", found, SAID, (errors - 0.5) / 10)


@pytest.mark.parametrize(
    ("other", "overlap"), [((0, 0, 10, 10), 1.0), ((0, 0, 10, 5), 0.5), ((10, 0, 20, 10), 0.0), ((5, 5, 15, 15), 1 / 7)]
)
def test_overlap_is_intersection_over_union(other: tuple[float, ...], overlap: float) -> None:
    assert iou((0, 0, 10, 10), other) == pytest.approx(overlap)
    assert iou(other, (0, 0, 10, 10)) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (box(0.36), True),  # sure of it here, hardly there
        (box(0.9, left=20.0), True),
        (box(0.9, left=60.0), False),
        (box(0.9, frame=25), False),
        (box(0.9, label="dog"), False),
    ],
)
def test_a_box_has_a_partner_of_its_class_in_its_frame_and_place(other: Box, same: bool) -> None:
    assert without_partner([box(0.8)], [other]) == ([] if same else [box(0.8)])


def test_one_box_is_the_partner_of_one_other() -> None:
    assert without_partner([box(0.6), box(0.9, left=5.0)], [box(0.9, left=4.0)]) == [box(0.6)]


def test_boxes_near_the_threshold_are_no_difference_however_many() -> None:
    thirty, twenty = [box(0.49, frame=frame, label="skateboard") for frame in range(30)], crowd(20)
    check_boxes("script", Found(1.0, [*twenty, *thirty]), Found(1.0, twenty))


@pytest.mark.parametrize(("lacking", "same"), [(2, True), (4, True), (5, False)])
def test_two_of_a_hundred_sure_boxes_may_lack_a_partner(lacking: int, same: bool) -> None:
    everything, some = Found(1.0, crowd(200)), Found(1.0, crowd(200 - lacking))
    if same:
        check_boxes("script", some, everything)
        check_boxes("script", everything, some)
        return
    with pytest.raises(AssertionError, match="5 of 200 sure boxes are missing there"):
        check_boxes("script", some, everything)
    with pytest.raises(AssertionError, match="5 of 200 sure boxes are only there"):
        check_boxes("script", everything, some)


def test_a_side_that_found_nothing_did_not_do_the_work() -> None:
    with pytest.raises(AssertionError, match="3 of 3 sure boxes are missing there"):
        check_boxes("script", Found(1.0), Found(1.0, crowd(3)))
