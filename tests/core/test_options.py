"""Options come from text, with bounds, and name themselves when they are wrong."""

from __future__ import annotations

import pytest

from tasks.core.options import AnalyzeOptions, UnknownOption, describe_options, option_names, parse_options


def test_values_are_yaml() -> None:
    options = parse_options(
        [
            "frames.fps=0.5",
            "detections.classes=[person, car]",
            "transcript.words=true",
            "transcript.language=en",
            "audio.stream=1",
        ]
    )
    assert options.frames.fps == 0.5
    assert options.detections.classes == ("person", "car")
    assert options.transcript.words is True
    assert options.transcript.language == "en"
    assert options.audio.stream == 1


def test_nothing_set_is_the_default() -> None:
    assert parse_options([]) == AnalyzeOptions()


def test_no_is_norwegian() -> None:
    assert parse_options(["transcript.language=no"]).transcript.language == "no"


@pytest.mark.parametrize(
    "wrong", ["frames.fps=61", "frames.mode=some", "detections.image_size=33", "limits.max_bytes=many"]
)
def test_out_of_bounds_says_the_bound(wrong: str) -> None:
    with pytest.raises(UnknownOption, match=wrong.split("=")[0]):
        parse_options([wrong])


def test_every_option_has_a_description() -> None:
    assert {name for name, _, _ in describe_options()} == set(option_names())
    assert all(description for _, _, description in describe_options())
