"""The energy split: bursts over different backgrounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.options import SegmentOptions
from tasks.core.segments import energy, segment_speech

OPTIONS = SegmentOptions(engine="librosa", pad_s=0)


def burst(background: float, *, loud: float = 0.2) -> npt.NDArray[np.float32]:
    """8 s of white noise of the background's level, louder from 2.0 to 3.5 and from 5.0 to 6.0 s."""
    rng = np.random.default_rng(0)
    level = np.full(8 * 16_000, background)
    for start, end in ((2.0, 3.5), (5.0, 6.0)):
        level[int(start * 16_000) : int(end * 16_000)] = loud
    return (level * rng.standard_normal(level.size)).astype(np.float32)


@pytest.mark.parametrize("background", [0.0, 0.0002, 0.02])
def test_bursts_are_found_over_silence_and_noise(background: float) -> None:
    found = segment_speech(burst(background), OPTIONS)
    edges = [edge for segment in found for edge in (segment.start, segment.end)]
    assert edges == pytest.approx([2.0, 3.5, 5.0, 6.0], abs=0.03)


def test_top_db_drops_what_is_far_below_the_loudest() -> None:
    audio = burst(0.0002)
    audio[80_000:96_000] *= 0.02
    assert len(segment_speech(audio, OPTIONS)) == 1
    assert len(segment_speech(audio, OPTIONS.model_copy(update={"top_db": 50.0}))) == 2


def test_levels_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = burst(0.01)[:100_001]
    whole = energy.frame_levels(audio)
    assert whole.shape == (626,)
    monkeypatch.setattr(energy, "BLOCK", 37)
    np.testing.assert_allclose(energy.frame_levels(audio), whole, atol=1e-3)


def test_level_is_decibels_of_full_scale() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    assert energy.frame_levels(tone)[50] == pytest.approx(-3.01, abs=0.05)
