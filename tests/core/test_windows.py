"""Packing of speech into windows: bounds, cover, order and where long speech is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tasks.core.schema import Interval, SpeechWindow
from tasks.core.windows import batch_windows, pack_windows, window_audio


def intervals(*pairs: tuple[float, float]) -> list[Interval]:
    return [Interval(start=start, end=end) for start, end in pairs]


def bounds(windows: list[SpeechWindow]) -> list[tuple[float, float]]:
    return [(round(window.start, 3), round(window.end, 3)) for window in windows]


def test_neighbours_share_a_window_up_to_its_length() -> None:
    speech = intervals((1, 5), (6, 20), (25, 31), (31.5, 40))
    assert bounds(pack_windows(speech, 30)) == [(1, 31), (31.5, 40)]
    assert bounds(pack_windows(speech, 15)) == [(1, 5), (6, 20), (25, 40)]
    assert pack_windows([], 30) == []


def test_long_speech_is_cut_into_equal_parts_without_audio() -> None:
    assert bounds(pack_windows(intervals((2, 72)), 30)) == [(2, 25.333), (25.333, 48.667), (48.667, 72)]


def test_long_speech_is_cut_where_it_is_quiet() -> None:
    audio = np.random.default_rng(0).standard_normal(80 * 16_000).astype(np.float32)
    for pause_s in (22.0, 44.5):
        audio[int((pause_s - 0.15) * 16_000) : int((pause_s + 0.15) * 16_000)] *= 0.01
    found = bounds(pack_windows(intervals((2, 72)), 30, audio))
    assert [start for start, _ in found] == pytest.approx([2, 22, 44.5], abs=0.1)
    assert [end for _, end in found] == pytest.approx([22, 44.5, 72], abs=0.1)
    assert found[-1][1] == 72


def test_the_rest_of_long_speech_shares_a_window_with_what_follows() -> None:
    assert bounds(pack_windows(intervals((0, 40), (41, 45)), 30)) == [(0, 20), (20, 45)]


@pytest.mark.parametrize("with_audio", [False, True])
def test_windows_cover_all_speech_without_overlap(with_audio: bool) -> None:
    rng = np.random.default_rng(5)
    edges = np.cumsum(rng.exponential(6, 120))
    speech = intervals(*zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    audio = rng.standard_normal(int(edges[-1] * 16_000) + 1).astype(np.float32) if with_audio else None
    windows = pack_windows(speech, 12.5, audio)
    assert windows == pack_windows(speech, 12.5, audio)
    assert all(0 < window.end - window.start <= 12.5 + 1e-5 for window in windows)
    assert all(a.end <= b.start for a, b in pairwise(windows))
    for segment in speech:
        inside = sum(max(0.0, min(w.end, segment.end) - max(w.start, segment.start)) for w in windows)
        assert inside == pytest.approx(segment.duration_s, abs=1e-6)


def test_disorder_is_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        pack_windows(intervals((5, 6), (1, 2)), 30)
    with pytest.raises(ValueError, match="positive"):
        pack_windows([], 0)


def test_batches_keep_the_order() -> None:
    windows = pack_windows(intervals((0, 9), (10, 19), (20, 29)), 10)
    assert [bounds(batch) for batch in batch_windows(windows, 2)] == [[(0, 9), (10, 19)], [(20, 29)]]


def test_window_audio_is_the_windows_samples() -> None:
    audio = np.arange(32_000, dtype=np.float32)
    samples = window_audio(audio, SpeechWindow(start=0.5, end=1.25))
    assert (samples[0], samples[-1], samples.size) == (8_000, 19_999, 12_000)
