"""Frames are counted as annotation and segments mark them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks._results import Row
from benchmarks.segmentation import boundary_error, check, compare, mean_f1, ratios, read_rttm, under
from tasks.core.schema import Interval


def intervals(*edges: tuple[float, float]) -> list[Interval]:
    return [Interval(start=start, end=end) for start, end in edges]


def test_frames_of_both_of_the_found_and_of_the_annotated_are_counted() -> None:
    counts = compare(intervals((0, 1)), intervals((0.5, 1.5), (0.6, 0.7)), 2.0)
    assert counts.tolist() == [50, 100, 100]
    assert ratios(counts) == {"precision": 0.5, "recall": 0.5, "F1": 0.5}
    assert ratios(np.zeros(3)) == {"precision": 0, "recall": 0, "F1": 0}


def test_segments_out_of_order_or_beyond_the_end_are_a_failure() -> None:
    check(intervals((0, 1), (1.5, 2)), 2.0)
    for wrong in (intervals((1.5, 2), (0, 1)), intervals((0, 2.5)), intervals((1, 1))):
        with pytest.raises(AssertionError):
            check(wrong, 2.0)


def test_noise_is_ten_decibels_below_the_speech() -> None:
    speech = np.sin(np.arange(16_000) / 5).astype(np.float32)
    noise = under("film sound", speech, np.array([3, -3], np.float32)) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.01)
    assert under("clean", speech, noise) is speech


def test_boundaries_take_the_worse_end() -> None:
    assert boundary_error(intervals((3.1, 5), (6, 13.8))) == pytest.approx(0.2)
    assert boundary_error([]) is None


def test_the_mean_takes_conditions_and_not_excerpts() -> None:
    rows: list[Row] = [
        {"engine": "silero", "sound": sound, "F1": f1}
        for sound, f1 in (("ami_dev00", 0.1), ("clean", 1.0), ("white noise", 0.8), ("film sound", 0.6))
    ]
    assert mean_f1("silero", [*rows, {"engine": "librosa", "sound": "clean", "F1": 0.0}]) == pytest.approx(0.8)


def test_an_annotation_without_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text("SPEAKER one 1 0.5 1.5 <NA> <NA> bob <NA> <NA>\n")
    assert read_rttm(tmp_path / "a.rttm", "one") == intervals((0.5, 2.0))
    with pytest.raises(ValueError, match="no speech of the file two"):
        read_rttm(tmp_path / "a.rttm", "two")
