"""Audio in media time: every click where it was put, every track as long as its media."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.core.audio import SAMPLE_RATE, extract_audio, load_audio, sample_count
from tasks.core.errors import DamagedArtifact
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.probe import probe
from tests import media

Sample = Callable[..., Path]
EXACT_S = 0.002


def clicks_of(path: Path, out: Path, stream: int | str | None = None) -> list[float]:
    info = probe(path, LimitOptions(), AudioOptions(stream=stream))
    extract_audio(path, info, out)
    sound = load_audio(out)
    assert sound.dtype == np.float32
    assert len(sound) == sample_count(info.duration_s)
    return media.find_clicks(sound, SAMPLE_RATE)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".wav", ".mp3", ".flac", ".ogg", ".m4a"])
def test_clicks_lie_at_their_media_times(sample: Sample, tmp_path: Path, suffix: str) -> None:
    path = sample("talk" if suffix in (".mp4", ".mkv") else "audio_only", suffix)
    assert clicks_of(path, tmp_path / "audio.flac") == pytest.approx(media.CLICKS, abs=EXACT_S)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_audio_that_starts_late(sample: Sample, tmp_path: Path, suffix: str) -> None:
    found = clicks_of(sample("late_audio", suffix), tmp_path / "audio.flac")
    first_frame = 0.0 if suffix != ".ts" else _video_start(sample("late_audio", suffix))
    assert [time - first_frame for time in found] == pytest.approx(media.CLICKS[1:], abs=0.02)


def test_a_clock_that_does_not_start_at_zero(sample: Sample, tmp_path: Path) -> None:
    path = sample("transport_stream", ".ts")
    found = clicks_of(path, tmp_path / "audio.flac")
    assert [time - _video_start(path) for time in found] == pytest.approx(media.CLICKS, abs=EXACT_S)


def _video_start(path: Path) -> float:
    video = probe(path, LimitOptions(), AudioOptions()).video
    assert video is not None
    return video.start


def test_a_gap_becomes_silence(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    whole = media.write(tmp_path / "whole.mkv", audio="libopus", rate=48_000)
    drop = r"noise=drop=gt(pts*tb\,1.7)*lt(pts*tb\,2.4)"
    media.ffmpeg("-i", whole, "-c", "copy", "-bsf:a", drop, path)
    assert clicks_of(path, tmp_path / "audio.flac") == pytest.approx(media.CLICKS, abs=0.02)


def test_the_chosen_stream_is_heard(sample: Sample, tmp_path: Path) -> None:
    path = sample("languages", ".mkv")
    assert len(clicks_of(path, tmp_path / "0.flac")) == 1
    assert len(clicks_of(path, tmp_path / "1.flac", "deu")) == 2
    assert len(clicks_of(path, tmp_path / "2.flac", 2)) == 3


def test_media_without_audio_give_silence_of_their_length(sample: Sample, tmp_path: Path) -> None:
    path, out = sample("video_only"), tmp_path / "audio.flac"
    extract_audio(path, probe(path, LimitOptions(), AudioOptions()), out)
    sound = load_audio(out)
    assert len(sound) == 4 * SAMPLE_RATE
    assert not sound.any()


def test_a_cut_file_gives_its_first_part(sample: Sample, tmp_path: Path) -> None:
    assert clicks_of(sample("truncated"), tmp_path / "audio.flac") == pytest.approx([0.5], abs=EXACT_S)


def test_load_audio_reads_a_stretch(sample: Sample, tmp_path: Path) -> None:
    path, out = sample("talk"), tmp_path / "audio.flac"
    extract_audio(path, probe(path, LimitOptions(), AudioOptions()), out)
    whole = load_audio(out)
    np.testing.assert_array_equal(load_audio(out, 1.25, 2.5), whole[20_000:40_000])
    np.testing.assert_array_equal(load_audio(out, 3.5), whole[56_000:])
    np.testing.assert_array_equal(load_audio(out, 3.5, 99), whole[56_000:])
    assert len(load_audio(out, 9.0)) == 0


def test_load_audio_refuses_other_files(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact, match="44100 Hz"):
        load_audio(sample("audio_only", ".wav"))
    (tmp_path / "no.flac").write_text("no audio")
    with pytest.raises(DamagedArtifact, match="cannot be read"):
        load_audio(tmp_path / "no.flac")


def test_stereo_is_mixed_without_clipping(shared_media: Path, tmp_path: Path) -> None:
    path, out = shared_media / "speech" / "jfk.flac", tmp_path / "audio.flac"
    extract_audio(path, probe(path, LimitOptions(), AudioOptions()), out)
    sound = load_audio(out)
    assert len(sound) == 11 * SAMPLE_RATE
    assert 0.3 < np.abs(sound).max() < 1.0
