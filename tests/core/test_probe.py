"""What probe finds in media of every shape, and what it refuses."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import (
    CorruptMedia,
    CutShort,
    EmptySource,
    EncryptedMedia,
    ForbiddenFormat,
    LimitExceeded,
    NotMedia,
    OptionError,
    PermanentError,
    SourceNotFound,
    TooShort,
    UnsupportedCodec,
    UnsupportedSource,
)
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import MediaInfo
from tests import media

Sample = Callable[..., Path]


def look(path: Path, stream: int | str | None = None, **limits: Any) -> MediaInfo:
    return probe(path, LimitOptions.model_validate(limits), AudioOptions(stream=stream))


def test_video_with_sound(talk: Path) -> None:
    info = look(talk)
    assert info.video is not None
    assert info.audio is not None
    assert (info.video.codec, info.video.width, info.video.height, info.video.rotation) == ("h264", 192, 108, 0)
    assert (info.video.fps, info.video.variable_fps, info.video.frames) == (Fraction(25), False, 100)
    assert (info.audio.codec, info.audio.sample_rate, info.audio.channels, info.audio.index) == ("aac", 44_100, 1, 1)
    assert info.duration_s == pytest.approx(4.0)
    assert (info.start_offset_s, info.damaged, info.bytes) == (0.0, False, talk.stat().st_size)


def test_the_extension_means_nothing(talk: Path, tmp_path: Path) -> None:
    for name in ("talk.txt", "talk.m3u8", "talk", "talk.jpg"):
        shutil.copy(talk, tmp_path / name)
        assert look(tmp_path / name).container == look(talk).container


def test_variable_frame_rate(sample: Sample) -> None:
    video = look(sample("variable_rate")).video
    assert video is not None
    assert video.variable_fps
    assert float(video.fps) == pytest.approx(49 / 3.88, rel=0.01)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_clockwise_and_applied_to_the_size(sample: Sample, rotation: int) -> None:
    video = look(sample("rotated", rotation=rotation)).video
    assert video is not None
    assert (video.rotation, video.width, video.height) == (rotation, 192, 108)


def test_cover_art_is_no_video(sample: Sample) -> None:
    info = look(sample("cover_art", ".mp3"))
    assert info.video is None
    assert info.audio is not None
    assert info.duration_s == pytest.approx(4.0)


@pytest.mark.parametrize(("stream", "index"), [(None, 1), (0, 1), (1, 2), (2, 3), ("deu", 2), ("DE", 2), ("en", 1)])
def test_an_audio_stream_by_position_or_language(sample: Sample, stream: int | str | None, index: int) -> None:
    info = look(sample("languages", ".mkv"), stream)
    assert info.audio is not None
    assert info.audio.index == index
    assert [track.language for track in info.audio_streams] == ["eng", "deu", None]


@pytest.mark.parametrize("stream", [3, -1, "fra", ""])
def test_an_audio_stream_that_is_not_there(sample: Sample, stream: int | str) -> None:
    with pytest.raises(OptionError, match=r"0 \(eng\), 1 \(deu\), 2 \(no language\)"):
        look(sample("languages", ".mkv"), stream)
    with pytest.raises(OptionError, match="none"):
        look(sample("video_only"), stream)


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".flac", ".wav", ".ogg", ".aac"])
def test_audio_only(sample: Sample, suffix: str) -> None:
    info = look(sample("audio_only", suffix))
    assert info.video is None
    assert info.audio is not None
    assert info.duration_s == pytest.approx(4.0, abs=0.05)
    assert not info.damaged


def test_video_only(sample: Sample) -> None:
    info = look(sample("video_only"))
    assert info.audio is None
    assert not info.audio_streams
    assert info.duration_s == pytest.approx(4.0)


def test_streams_that_start_late(sample: Sample) -> None:
    audio, video = look(sample("late_audio")).audio, look(sample("late_video")).video
    assert audio is not None
    assert video is not None
    assert audio.start == pytest.approx(1.0, abs=0.03)
    assert video.start == pytest.approx(1.0)
    assert look(sample("late_video")).duration_s == pytest.approx(4.0)


def test_a_clock_that_starts_anywhere(sample: Sample) -> None:
    info = look(sample("transport_stream", ".ts"))
    assert info.video is not None
    assert info.start_offset_s == pytest.approx(1000, abs=0.1)
    assert 0 <= info.video.start < 0.1
    assert info.duration_s == pytest.approx(4.0, abs=0.05)


def test_a_container_without_a_duration(tmp_path: Path, talk: Path) -> None:
    path = tmp_path / "live.mkv"
    media.ffmpeg("-i", talk, "-c", "copy", "-f", "matroska", "-live", "1", path)
    assert look(path).duration_s == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
def test_a_file_cut_in_the_middle(sample: Sample, suffix: str) -> None:
    info = look(sample("truncated", suffix))
    assert info.damaged
    assert info.video is not None
    assert 1.0 < info.duration_s < 2.5
    assert info.video.fps == Fraction(25)
    assert not info.video.variable_fps


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptySource),
        (b"only words, " * 100, NotMedia),
        ("Wörter".encode("utf-16"), NotMedia),
        (b"WEBVTT\n\n00:00.000 --> 00:02.000\nHi\n", NotMedia),
        (b"1\n00:00:00,000 --> 00:00:02,000\nHi\n", NotMedia),
        (b"PK\x03\x04" + bytes(200), NotMedia),
        (bytes(10_000), NotMedia),
        (bytes(range(256)) * 40, NotMedia),
        (b"\x00\x00\x00\x1cftypisom" + bytes(40), CutShort),
        (b"#EXTM3U\nfile:///etc/passwd\n", ForbiddenFormat),
        (b"\xef\xbb\xbf  #EXTM3U\nsecret.ts\n", ForbiddenFormat),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", ForbiddenFormat),
        (b"# my list\nfile '/etc/passwd'\n", ForbiddenFormat),
        (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', ForbiddenFormat),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", ForbiddenFormat),
    ],
)
def test_content_that_is_no_media(tmp_path: Path, content: bytes, error: type[PermanentError]) -> None:
    with pytest.raises(error, match=r"video\.mp4: .{15}") as caught:
        look(_write(tmp_path / "video.mp4", content))
    assert type(caught.value) is error


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif"])
def test_a_still_image(sample: Sample, suffix: str) -> None:
    with pytest.raises(NotMedia, match="image"):
        look(sample("still_image", suffix))


def test_subtitles_only(sample: Sample) -> None:
    with pytest.raises(NotMedia, match="subtitle"):
        look(sample("subtitles_only", ".mkv"))


def test_an_mp4_without_its_index(sample: Sample) -> None:
    with pytest.raises(CutShort, match="moov atom not found"):
        look(sample("without_moov"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_header_that_claims_huge_frames(sample: Sample, suffix: str) -> None:
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match="65535 x 65535"):
        look(sample("huge_header", suffix))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "limits", [{"max_bytes": 1000}, {"max_duration_s": 3.9}, {"max_pixels": 192 * 108 - 1}, {"max_streams": 1}]
)
def test_limits(talk: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(LimitExceeded, match=f"limits.{next(iter(limits))}"):
        look(talk, **limits)


def test_a_codec_without_a_decoder(sample: Sample, tmp_path: Path) -> None:
    data = sample("video_only", ".avi").read_bytes()
    with pytest.raises(UnsupportedCodec, match=r"no decoder for it \(video"):
        look(_write(tmp_path / "odd.avi", data.replace(b"H264", b"QQQQ")))


def test_a_stream_without_a_decoder_leaves_the_others(shared_cases: Path) -> None:
    info = look(shared_cases / "sample_missing_stsd.mp4")
    assert info.video is not None
    assert (info.video.frames, info.audio, info.damaged) == (30, None, False)
    [notice] = info.notices
    assert "no decoder" in notice
    assert "sound" in notice


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("subsample_encrypted_altref.webm", EncryptedMedia, "encrypted"),
        ("sample_80KHz_mono_20_repeating_1_samples.wav", TooShort, "too_short"),
    ],
)
def test_reasons_say_what_is_the_case(shared_cases: Path, name: str, error: type[PermanentError], code: str) -> None:
    with pytest.raises(error) as caught:
        look(shared_cases / name)
    assert caught.value.code == code
    assert "upload" not in caught.value.message


def test_encrypted_mp4(talk: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.mp4"
    key = ["-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"]
    media.ffmpeg("-i", talk, "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, path)
    with pytest.raises(EncryptedMedia):
        look(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        look(tmp_path / "none.mp4")
    with pytest.raises(UnsupportedSource):
        look(tmp_path)


@pytest.mark.parametrize("prefix", [b"", b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10), b"\x00\n"])
@pytest.mark.parametrize("write", [media.hls_playlist, media.concat_script])
def test_what_a_script_names_is_never_opened(
    tmp_path: Path, write: Callable[[Path, Path], Path], prefix: bytes
) -> None:
    secret = tmp_path / "secret.ts"
    os.mkfifo(secret)  # opening it for reading would hang
    script = write(tmp_path / "script.m3u8", secret)
    started = time.monotonic()
    with pytest.raises((ForbiddenFormat, NotMedia, CorruptMedia)):
        look(_write(script, prefix + script.read_bytes()))
    assert time.monotonic() - started < 10


def test_real_media(shared_media: Path) -> None:
    videos = sorted((shared_media / "video").glob("*.m[p]*"))
    assert len(videos) > 8
    for path in videos:
        info = look(path)
        assert info.video is not None, path.name
        assert not info.damaged, path.name
        assert not info.video.variable_fps, path.name
    info = look(shared_media / "video" / "sintel.mp4")
    assert info.video is not None
    assert info.video.start == pytest.approx(0.033, abs=1e-4)
    assert info.duration_s == pytest.approx(26.197, abs=1e-3)
