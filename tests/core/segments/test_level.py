"""Quiet stretches are raised, loud ones left alone, and noise stays noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.segments.level import MAX_GAIN_DB, QUIET_DB, apply_gains, gains, raise_quiet

RATE = 16_000


def tone(seconds: float, level_db: float) -> npt.NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * 200 * time), np.float32)


def level(samples: npt.NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-20))


def test_a_quiet_stretch_between_loud_ones_is_raised_and_they_are_not() -> None:
    audio = np.concatenate([tone(5, -15), tone(10, -60), tone(5, -15)])
    levelled = apply_gains(audio, 0, gains(audio))
    np.testing.assert_array_equal(levelled[: 4 * RATE], audio[: 4 * RATE])
    assert level(levelled[9 * RATE : 11 * RATE]) == pytest.approx(-23, abs=0.5)


def test_silence_stays_silence_and_gain_is_bounded() -> None:
    for quiet_db in (-300.0, -95.0):
        assert not gains(tone(4, quiet_db)).any()
    assert gains(tone(4, -85)).max() == pytest.approx(MAX_GAIN_DB)
    assert gains(np.zeros(0, np.float32)).size == 0


def test_blocks_give_what_the_whole_gives() -> None:
    audio = np.concatenate([tone(70, -50), tone(3.33, -20)])
    found = gains(audio)
    whole = apply_gains(audio, 0, found)
    parts = [apply_gains(audio[at : at + 50_000], at, found) for at in range(0, audio.size, 50_000)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_bad_samples_do_no_harm() -> None:
    audio = tone(2, -50)
    audio[100], audio[200] = np.nan, np.inf
    assert np.isfinite(gains(audio)).all()


def test_a_quiet_window_is_raised_as_a_whole() -> None:
    quiet = tone(3, -60)
    assert level(raise_quiet(quiet)) == pytest.approx(-23, abs=0.1)
    loud = tone(3, QUIET_DB + 1)
    assert raise_quiet(loud) is loud
    assert not raise_quiet(np.zeros(RATE, np.float32)).any()
