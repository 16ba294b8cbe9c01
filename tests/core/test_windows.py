"""Packing of speech into windows: bounds, cover, order, and cuts in pauses only."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tasks.core.schema import Interval, Pause, SpeechWindow
from tasks.core.windows import MARGIN_S, SHARED_S, batch_windows, pack_windows, window_audio


def intervals(*pairs: tuple[float, float]) -> list[Interval]:
    return [Interval(start=start, end=end) for start, end in pairs]


def pauses(*times: float, duration_s: float = 0.2) -> list[Pause]:
    return [Pause(time=time, duration_s=duration_s) for time in times]


def bounds(windows: list[SpeechWindow]) -> list[tuple[float, float]]:
    return [(round(window.start, 3), round(window.end, 3)) for window in windows]


def test_neighbours_share_a_window_up_to_its_length() -> None:
    speech = intervals((1, 5), (6, 20), (25, 30.5), (31.5, 40))
    assert bounds(pack_windows(speech, [], 30, 50)) == [(0.5, 20.5), (24.5, 40.5)]
    assert bounds(pack_windows(speech, [], 15, 50)) == [(0.5, 5.5), (5.5, 20.5), (25, 40)]
    assert pack_windows([], [], 30, 50) == []


def test_margins_reach_neither_beyond_the_track_nor_into_the_next_window() -> None:
    assert bounds(pack_windows(intervals((0.2, 28)), [], 30, 28.1)) == [(0, 28.1)]
    assert bounds(pack_windows(intervals((1, 20), (20.4, 40)), [], 30, 40.25)) == [(0.5, 20.2), (20.2, 40.25)]
    assert bounds(pack_windows(intervals((1, 30.8)), [], 30, 40)) == [(0.9, 30.9)]


def test_long_speech_is_cut_at_its_longest_pauses() -> None:
    found = pack_windows(intervals((2, 72)), [*pauses(20, 27, 44, 50, 60), *pauses(22, 46, duration_s=0.5)], 30, 80)
    assert bounds(found) == [(1.5, 22), (22, 46), (46, 72.5)]
    assert not any(window.shared_start_s or window.shared_end_s for window in found)


def test_few_windows_count_more_than_long_pauses() -> None:
    speech = intervals((0, 10), (18, 28), (28.6, 40), (45, 58))
    assert bounds(pack_windows(speech, [], 30, 58)) == [(0, 28.3), (28.3, 58)]


def test_speech_without_a_pause_is_cut_into_windows_that_share_a_stretch() -> None:
    found = pack_windows(intervals((1, 3), (4, 76)), [], 30, 80)
    assert [window.shared_start_s for window in found] == [0, 0, SHARED_S, SHARED_S]
    assert [window.shared_end_s for window in found] == [0, SHARED_S, SHARED_S, 0]
    assert bounds(found)[0] == (0.5, 3.5)
    assert all(window.end - window.start <= 30 + 1e-6 for window in found)
    for before, after in pairwise(found[1:]):
        assert before.end - after.start == pytest.approx(SHARED_S)
    assert found[-1].end == pytest.approx(76, abs=MARGIN_S + 1e-6)


def test_windows_cover_all_speech_and_cut_only_in_pauses() -> None:
    rng = np.random.default_rng(5)
    edges = np.cumsum(rng.exponential(6, 120)).tolist()
    speech = intervals(*zip(edges[::2], edges[1::2], strict=True))
    inner = sorted(rng.uniform(0, edges[-1], 400).tolist())
    windows = pack_windows(speech, pauses(*inner), 12.5, edges[-1] + 1)
    assert windows == pack_windows(speech, pauses(*inner[::-1]), 12.5, edges[-1] + 1)
    assert all(0 < window.end - window.start <= 12.5 + 1e-5 for window in windows)
    assert all(a.end <= b.start + 1e-9 or a.shared_end_s for a, b in pairwise(windows))
    for segment in speech:
        inside = sum(max(0.0, min(w.end, segment.end) - max(w.start, segment.start)) for w in windows)
        assert inside == pytest.approx(segment.duration_s, abs=1e-6)
    for edge in (edge for window in windows for edge in (window.start, window.end)):
        within = any(segment.start < edge < segment.end for segment in speech)
        assert not within or min(abs(edge - time) for time in inner) < 1e-9


def test_disorder_is_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        pack_windows(intervals((5, 6), (1, 2)), [], 30, 10)
    with pytest.raises(ValueError, match="at least 5"):
        pack_windows([], [], 0, 10)


def test_batches_keep_the_order() -> None:
    windows = pack_windows(intervals((0, 9), (10, 19), (20, 29)), [], 10, 29)
    assert [bounds(batch) for batch in batch_windows(windows, 2)] == [[(0, 9.5), (9.5, 19.5)], [(19.5, 29)]]


def test_window_audio_is_the_windows_samples() -> None:
    audio = np.arange(32_000, dtype=np.float32)
    samples = window_audio(audio, SpeechWindow(start=0.5, end=1.25))
    assert (samples[0], samples[-1], samples.size) == (8_000, 19_999, 12_000)
