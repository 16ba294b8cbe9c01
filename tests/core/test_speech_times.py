"""Segments and words lie within the speech that was found, in order, none without length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tasks.core.schema import Interval, Segment, Word
from tasks.core.speech_times import LEAST_WORD_S, fit

SPEECH = [Interval(start=0, end=3), Interval(start=8.5, end=11)]


def said(start: float, end: float, *words: tuple[float, float]) -> Segment:
    timed = [Word(start=a, end=b, text=f"w{number}", probability=1) for number, (a, b) in enumerate(words)]
    return Segment(id=0, start=start, end=end, text=" ".join(word.text for word in timed) or "x", words=timed or None)


def test_a_word_that_drifted_into_the_pause_goes_back_to_its_sentence() -> None:
    [found] = fit([said(0.2, 3.8, (0.2, 1.0), (1.0, 2.9), (3.8, 3.8))], SPEECH)
    assert found.words is not None
    assert [(word.start, word.end) for word in found.words] == [(0.2, 1.0), (1.0, 2.9), (2.94, 3.0)]
    assert (found.start, found.end) == (0.2, 3.0)


def test_segments_end_with_the_speech() -> None:
    found = fit([said(0.0, 6.0), said(6.0, 10.0), said(10.0, 14.0)], SPEECH)
    assert [(segment.start, segment.end) for segment in found] == [(0, 3), (8.5, 10), (10, 11)]


def test_a_segment_beside_all_speech_goes_to_the_nearest() -> None:
    [found] = fit([said(4, 5)], SPEECH)
    assert found.end <= 3
    assert found.end - found.start >= LEAST_WORD_S - 1e-9
    assert fit([said(4, 5)], [])[0].start == 4


def test_words_of_any_times_come_out_in_order_within_the_speech() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        edges = np.sort(rng.uniform(0, 14, 16)).round(2)
        times = [(float(a), float(max(a, b - rng.choice([0, 0.3])))) for a, b in pairwise(edges)]
        found = fit([said(*times[0], *times[:7]), said(*times[7], *times[7:])], SPEECH)
        words = [word for segment in found for word in segment.words or []]
        assert len(words) == len(times)
        assert all(word.end > word.start for word in words)
        assert all(before.end <= after.start + 2e-3 for before, after in pairwise(words))
        for word in words:
            assert any(s.start - 2e-3 <= word.start and word.end <= s.end + 2e-3 for s in SPEECH)
