"""Which speech counts as without text, and what a second text is worth."""

from __future__ import annotations

from tasks.core.coverage import covered, is_sparse, overlap_s, repeats, sentences, uncovered, within
from tasks.core.schema import Interval, Segment, Word


def spans(*pairs: tuple[float, float]) -> list[Interval]:
    return [Interval(start=start, end=end) for start, end in pairs]


def said(start: float, end: float, text: str = "x") -> Segment:
    return Segment(id=0, start=start, end=end, text=text)


def test_a_sentence_that_no_segment_touches_is_uncovered() -> None:
    speech = spans((0, 3), (4, 6))
    assert uncovered(speech, [said(0, 3)]) == spans((4, 6))
    assert uncovered(speech, [said(0, 4.5)]) == spans((4, 6))
    assert uncovered(speech, [said(0, 6)]) == []
    assert uncovered(speech, []) == speech


def test_inexact_times_and_coughs_are_not_uncovered_speech() -> None:
    assert uncovered(spans((0, 4)), [said(0.7, 3.2)]) == []
    assert uncovered(spans((0, 3), (3.5, 3.9)), [said(0, 3)]) == []


def test_a_long_rest_of_a_stretch_is_uncovered() -> None:
    assert uncovered(spans((0, 20)), [said(0, 9), said(12, 19)]) == spans((9, 12))


def test_overlap_and_parts() -> None:
    speech = spans((0, 3), (4, 6))
    assert overlap_s(2, 5, speech) == 2
    assert within(speech, 2, 5) == spans((2, 3), (4, 5))


def test_text_that_says_its_neighbours_again_repeats() -> None:
    assert repeats("for you.", "what your country can do for you", "ask what")
    assert repeats("Ask what", "", "ask what you can do")
    assert repeats(" ...", "", "")
    assert not repeats("the child", "for you", "ask what")


def test_a_text_that_is_short_for_its_sentences_is_sparse() -> None:
    speech = spans((0, 3), (4, 7))
    assert is_sparse(0, 7, "at that high level the air is pure", speech)
    assert not is_sparse(0, 7, "at that high level the air is pure, a thin stripe runs down the middle", speech)
    assert not is_sparse(0, 3, "well", speech)
    assert is_sparse(0, 15, "the", spans((0, 15)))
    assert not is_sparse(0, 4, "well, then let us see", spans((0, 4)))


def test_words_tell_better_than_segments_where_text_lies() -> None:
    word = Word(start=4.5, end=6.5, text="x", probability=1)
    timed = said(0, 7).model_copy(update={"words": [word]})
    assert covered([timed, said(8, 9)]) == spans((4.5, 6.5), (8, 9))
    assert uncovered(spans((0, 3), (4, 7)), covered([timed])) == spans((0, 3))


def test_sentences_are_parted_by_pauses_of_speech_and_text() -> None:
    speech = spans((0, 2), (3, 5), (5.5, 7))
    one, two = said(0, 2.6), said(2.6, 7.2)
    assert sentences(speech, [two, one]) == [(speech[0], [one]), (Interval(start=3, end=7), [two])]
    both = said(0, 5)
    assert sentences(speech, [both, said(5, 7)])[0] == (Interval(start=0, end=5), [both])
