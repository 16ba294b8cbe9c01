"""Copies on one clock: sound of any mixture of formats, and what of it does not decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tasks.core.errors import CorruptMedia
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import MediaInfo
from tasks.core.straighten import LEAD_S, straighten_picture, straighten_sound
from tests import media

Sample = Callable[..., Path]


def look(path: Path) -> MediaInfo:
    return probe(path, LimitOptions(), AudioOptions())


CODECS = {
    ".mp3": "libmp3lame",
    ".flac": "flac",
    ".oga": "flac",
    ".ogg": "libvorbis",
    ".opus": "libopus",
    ".wav": "pcm_s16le",
}


@pytest.mark.parametrize("suffix", [".aac", ".mp3", ".flac", ".oga", ".ogg", ".opus", ".m4a", ".wav"])
def test_recordings_of_different_rate_and_channels(tmp_path: Path, suffix: str) -> None:
    codec = CODECS.get(suffix, "aac")
    parts = []
    for name, frequency, options in (("a", 440, ["-ar", "16000"]), ("b", 880, ["-ar", "48000", "-ac", "2"])):
        part = tmp_path / f"{name}{suffix}"
        media.ffmpeg("-f", "lavfi", "-i", f"sine=f={frequency}:d=3", *options, "-c:a", codec, part)
        parts.append(part.read_bytes())
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(parts))
    heard, info = straighten_sound(path, look(path), tmp_path / "sound.flac")
    assert heard.duration_s == pytest.approx(6.0, abs=0.2)
    assert (heard.damage, info.takes, info.start_offset_s) == ([], [], 0.0)
    sound, rate = soundfile.read(tmp_path / "sound.flac", always_2d=True)
    assert len(sound) / rate == pytest.approx(heard.duration_s, abs=0.001)
    for start, frequency in ((0.5, 440), (3.7, 880)):
        stretch = sound[round(start * rate) : round((start + 2) * rate), 0]
        loudest = np.argmax(np.abs(np.fft.rfft(stretch))) / 2
        assert loudest == pytest.approx(frequency, abs=2)
        assert np.abs(stretch).reshape(100, -1).max(axis=1).min() > 0.01, "no holes"


def test_gaps_stay_and_overlaps_go(tmp_path: Path) -> None:
    whole = media.write(tmp_path / "whole.mkv", audio="libopus", rate=48_000)
    media.ffmpeg(
        "-i", whole, "-c", "copy", "-bsf:a", r"noise=drop=gt(pts*tb\,1.7)*lt(pts*tb\,2.4)", tmp_path / "gap.mkv"
    )
    heard, _ = straighten_sound(tmp_path / "gap.mkv", look(tmp_path / "gap.mkv"), tmp_path / "sound.flac")
    sound, rate = soundfile.read(tmp_path / "sound.flac", dtype="float32")
    assert media.find_clicks(sound, rate) == pytest.approx(media.CLICKS, abs=0.02)
    assert heard.duration_s - heard.decoded_s == pytest.approx(0.7, abs=0.05)


def test_pictures_of_all_takes_are_copied_with_their_times(sample: Sample, tmp_path: Path) -> None:
    take = sample("transport_stream", ".ts").read_bytes()
    path, out = tmp_path / "two.ts", tmp_path / "picture.mkv"
    path.write_bytes(take * 2)
    info = straighten_picture(path, look(path), out)
    assert info.video is not None
    assert (info.container, info.takes, info.start_offset_s) == ("matroska,webm", [], LEAD_S)
    with av.open(str(out)) as copy:
        shown = [
            (media.read_ordinal(np.asarray(f.to_ndarray(format="gray"), np.uint8)), float(f.time))
            for f in copy.decode(video=0)
        ]
    assert [ordinal for ordinal, _ in shown] == [*range(100), *range(100)]
    second = look(path).takes[1].start
    expected = [LEAD_S + start + info.video.start + k / 25 for start in (0, second) for k in range(100)]
    assert [time for _, time in shown] == pytest.approx(expected, abs=0.002)


def test_sound_of_which_nothing_decodes(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "sour.m4a"
    info = look(sample("audio_only", ".m4a"))
    data = bytearray(sample("audio_only", ".m4a").read_bytes())
    at = data.index(b"mdat")
    length = int.from_bytes(data[at - 4 : at]) - 8
    data[at + 4 : at + 4 + length] = b"\xa5" * length
    path.write_bytes(data)
    with pytest.raises(CorruptMedia, match="nothing of its aac sound"):
        straighten_sound(path, info, tmp_path / "sound.flac")
