"""Errors are the fewest edits after normalisation; a sentence is lost when its words don't stand at its time."""

from __future__ import annotations

import pytest

from benchmarks._sides import Segment
from benchmarks._word_errors import Sentence, score

PURE = Sentence("pure", 0.0, 3.0, "At that high level the air is pure.")
BLUE = Sentence("blue", 5.0, 8.0, "lay blue at x four now")
AGAIN = Sentence("again", 10.0, 13.0, "lay blue by c two again")


def heard(*segments: Segment) -> list[Segment]:
    return list(segments)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("AT THAT HIGH LEVEL, THE AIR IS PURE", 0),
        ("At that high level the the air is pure", 1),
        ("At high level the air was pure", 2),
        ("", 8),
        ("Uh, at that high level the air's pure [music]", 0),
    ],
)
def test_substituted_inserted_and_missing_words_are_errors(text: str, errors: int) -> None:
    found = score([PURE], heard((0.2, 2.8, text)))
    assert (found.words, found.errors) == (8, errors)


def test_numbers_and_spelling_are_no_errors() -> None:
    assert score([BLUE], heard((5, 8, "Lay blue at X 4 now!"))).errors == 0


def test_words_heard_where_nothing_was_said_are_errors() -> None:
    found = score([], heard((0, 1, "Thank you.")))
    assert (found.words, found.errors, found.lost) == (0, 2, [])


def test_half_of_a_sentence_is_enough_and_less_is_not() -> None:
    assert score([PURE], heard((0, 3, "at that high level"))).lost == []
    assert score([PURE], heard((0, 3, "at that high"))).lost == ["pure"]


def test_a_sentence_of_few_words_is_not_called_lost() -> None:
    assert score([Sentence("hello", 0.0, 1.0, "Oh, hello there.")], []).lost == []


@pytest.mark.parametrize(("start", "lost"), [(3.9, []), (4.1, ["pure"])])
def test_words_count_at_their_time_within_a_second(start: float, lost: list[str]) -> None:
    found = score([PURE], heard((start, start + 2, PURE.text)))
    assert (found.errors, found.lost) == (0, lost)


def test_one_segment_may_hold_several_sentences() -> None:
    found = score([PURE, BLUE, AGAIN], heard((0, 13, f"{PURE.text} {BLUE.text} {AGAIN.text}")))
    assert (found.words, found.errors, found.lost) == (20, 0, [])


def test_of_two_sentences_alike_the_one_that_was_not_heard_is_lost() -> None:
    twins = [Sentence("first", 0.0, 3.0, BLUE.text), Sentence("second", 10.0, 13.0, BLUE.text)]
    assert score(twins, heard((10, 13, BLUE.text))).lost == ["first"]
    assert score(twins, heard((0, 3, BLUE.text))).lost == ["second"]
    assert score(twins, heard((0, 3, BLUE.text))).errors == 6


def test_places_choose_among_the_shortest_alignments_and_never_a_longer_one() -> None:
    first, second = "red now red now red now", "now blue now blue now blue"
    spoken = [Sentence("a", 0.0, 3.0, first), Sentence("b", 10.0, 13.0, second)]
    found = score(spoken, heard((0, 3, first), (10, 13, second.removeprefix("now "))))
    assert (found.errors, found.lost) == (1, [])
