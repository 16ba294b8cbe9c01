"""Windows that share a stretch: each word once, whatever the two disagree on."""

from __future__ import annotations

from tasks.core.publish.joints import join_text, join_windows, uncovered_gaps
from tasks.core.schema import HeardWindow, Segment, SpeechWindow, TranscriptGap, Word


def heard(text: str, start: float, window: SpeechWindow, *, every_s: float = 0.5) -> HeardWindow:
    """A window with one segment whose words follow each other every half a second."""
    words = [
        Word(start=start + number * every_s, end=start + number * every_s + 0.4, text=word, probability=0.9)
        for number, word in enumerate(text.split())
    ]
    segment = Segment(id=0, start=words[0].start, end=words[-1].end, text=text, words=words)
    return HeardWindow(window=window, segments=[segment])


FIRST = SpeechWindow(start=0, end=10, shared_end_s=4)
SECOND = SpeechWindow(start=6, end=16, shared_start_s=4)
TEXT = "a b c d e f g h i j k l m n o p q r s t"  # from 0 to 10 s


def text_of(*windows: HeardWindow) -> str:
    return join_text([segment.text for segment in join_windows(windows, "en")], "en")


def test_words_heard_alike_in_both_come_once() -> None:
    later = "m n o p q r s t u v w x y z"
    assert text_of(heard(TEXT, 0, FIRST), heard(later, 6, SECOND)) == f"{TEXT} u v w x y z"


def test_a_word_cut_at_either_edge_is_taken_from_the_other_window() -> None:
    first, second = TEXT[:-1] + "tea", "hem n o p q r s t u v"
    assert text_of(heard(first, 0, FIRST), heard(second, 6, SECOND)) == f"{TEXT} u v"


def test_times_that_differ_by_a_word_neither_lose_nor_double_it() -> None:
    later = "m n o p q r s t u v"
    for shift_s in (-0.45, 0.45):
        assert text_of(heard(TEXT, 0, FIRST), heard(later, 6 + shift_s, SECOND)) == f"{TEXT} u v"


def test_texts_without_a_common_word_meet_in_the_middle() -> None:
    joined = text_of(heard(TEXT, 0, FIRST), heard("1 2 3 4 5 6 7 8 9", 6, SECOND))
    assert joined == "a b c d e f g h i j k l m n o p 5 6 7 8 9"


def test_windows_that_share_nothing_are_left_alone() -> None:
    windows = [heard("one two", 0, SpeechWindow(start=0, end=2)), heard("two three", 2, SpeechWindow(start=2, end=4))]
    assert text_of(*windows) == "one two two three"
    assert [segment.text for segment in join_windows(windows, "en")] == ["one two", "two three"]


def test_segments_without_words_are_kept_where_windows_share_nothing() -> None:
    plain = HeardWindow(window=SpeechWindow(start=0, end=2), segments=[Segment(id=0, start=0, end=2, text="one")])
    assert join_windows([plain], "en") == plain.segments


def test_a_gap_that_the_other_window_has_text_for_is_none() -> None:
    gap = TranscriptGap(start=8, end=9, reason="nothing_heard")
    first = HeardWindow(window=FIRST, gaps=[gap])
    assert uncovered_gaps([first, heard("m n o p q r s t", 6, SECOND)]) == []
    assert uncovered_gaps([first, HeardWindow(window=SECOND, gaps=[gap])]) == [gap]


def test_text_is_joined_as_the_language_writes_it() -> None:
    assert join_text(["one two", "", "three"], "en") == "one two three"
    assert join_text(["你好", "世界"], "zh") == "你好世界"
