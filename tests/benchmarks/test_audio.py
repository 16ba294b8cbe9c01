"""Two extractions are the same sound, or they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.audio import (
    RATE,
    check,
    described,
    ffmpeg_command,
    pyav,
    read,
    readable,
    reelflow,
    signal_to_difference,
)

NOISE = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)


def test_the_ratio_is_that_of_powers() -> None:
    assert signal_to_difference(NOISE, NOISE) == float("inf")
    assert signal_to_difference(NOISE, 0.9 * NOISE) == pytest.approx(20, abs=0.01)
    assert signal_to_difference(NOISE, NOISE[:1000] * 0.0) == pytest.approx(0, abs=0.01)


def test_rounding_and_a_short_delay_pass_and_another_length_or_sound_does_not() -> None:
    check("side", NOISE[:-100] + np.float32(0.01), NOISE)
    check("side", NOISE[8:], NOISE)
    check("side", np.concatenate([NOISE[:99], NOISE]), NOISE)
    with pytest.raises(AssertionError, match="longer or shorter"):
        check("side", NOISE[: RATE // 2], NOISE)
    with pytest.raises(AssertionError, match="another sound"):
        check("side", NOISE[::-1], NOISE)
    with pytest.raises(AssertionError, match="another sound"):
        check("side", np.roll(NOISE, RATE // 4), NOISE)


def test_extractions_of_a_video_are_the_same_sound(talk: Path, tmp_path: Path) -> None:
    source = described("talk", talk)
    reelflow(source, tmp_path / "ours.flac")
    for extract in (ffmpeg_command, pyav):
        extract(source, tmp_path / "other.flac")
        check(extract.__name__, read(tmp_path / "other.flac"), read(tmp_path / "ours.flac"))
    assert readable(tmp_path / "ours.flac")
    assert not readable(talk)
