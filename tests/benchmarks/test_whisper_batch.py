"""Every window has its tokens, and both sides the same ones."""

from __future__ import annotations

import pytest

from benchmarks.whisper_batch import DIMENSIONS, same

EXPECTED = [list(range(10)), list(range(10, 20))]


def test_equal_tokens_pass_and_half_precision_may_differ_in_some() -> None:
    same("side", EXPECTED, EXPECTED, 10, 1.0)
    same("side", [[*range(9), 99], EXPECTED[1]], EXPECTED, 10, 0.9)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (EXPECTED[::-1], "only 0.0%"),
        ([[*range(9), 99], EXPECTED[1]], "only 95.0%"),
        ([EXPECTED[0][:-1], EXPECTED[1]], r"\[9, 10\] tokens, not 10"),
    ],
)
def test_mixed_up_or_missing_tokens_do_not(found: list[list[int]], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        same("side", found, EXPECTED, 10, 1.0)


def test_dimensions_are_within_what_our_loader_accepts() -> None:
    from tasks.core.models.whisper import _checked_dimensions

    for name, values in DIMENSIONS.items():
        dimensions = _checked_dimensions(values)
        assert dimensions.n_audio_state % dimensions.n_audio_head == 0, name
        assert dimensions.n_audio_state // dimensions.n_audio_head == 64, name
