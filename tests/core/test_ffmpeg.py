"""Runs of ffmpeg: awkward names, bounds, and whose fault a failure is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import ffmpeg
from tasks.core.errors import CorruptMedia, LimitExceeded, ToolFailed


def decode(path: Path, out: Path, container: str = "mov", timeout_s: float = 60) -> str:
    sound = ffmpeg.open_media(path, container)["1"]
    return ffmpeg.run(ffmpeg.write_to(out, sound, format="wav"), media=path, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "-i.mp4",
        "a:b.mp4",
        "quo'te\".mp4",
        "new\nline.mp4",
        "%03d.mp4",
        "http:",
        "pipe:0",
        "ü\u202e.mp4",
    ],
)
def test_any_file_name_is_only_a_file_name(talk: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copy(talk, path)
    decode(path, tmp_path / "out of -y.wav")
    assert (tmp_path / "out of -y.wav").stat().st_size > 100_000


def test_a_playlist_is_not_followed(sample: Callable[..., Path], talk: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nfile://{talk}\n#EXT-X-ENDLIST\n")
    with pytest.raises(CorruptMedia, match=r"not on whitelist|cannot be decoded"):
        decode(playlist, tmp_path / "out.wav", container="hls")
    assert not (tmp_path / "out.wav").exists()


def test_a_broken_file_is_the_medias_fault(sample: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CorruptMedia, match=r"without_moov\.mp4") as caught:
        decode(sample("without_moov"), tmp_path / "out.wav")
    assert "moov atom not found" in caught.value.detail


def test_a_folder_that_cannot_be_written_is_our_fault(talk: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="No such file"):
        decode(talk, tmp_path / "missing" / "out.wav")


def test_time_is_bounded(talk: Path, tmp_path: Path) -> None:
    endless = ffmpeg.open_media(talk, "mov", stream_loop=-1, readrate=1)["1"]
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match="time bound"):
        ffmpeg.run(ffmpeg.write_to(tmp_path / "out.wav", endless, format="wav"), media=talk, timeout_s=1)
    assert time.monotonic() - started < 5


def test_output_size_is_bounded(talk: Path, tmp_path: Path) -> None:
    sound = ffmpeg.open_media(talk, "mov")["1"]
    output = ffmpeg.write_to(tmp_path / "out.wav", sound, format="wav")
    with pytest.raises((LimitExceeded, ToolFailed)):
        ffmpeg.run(output, media=talk, timeout_s=60, file_bytes=10_000)
    assert (tmp_path / "out.wav").stat().st_size <= 10_000


def test_names_are_printable_in_messages() -> None:
    assert ffmpeg.media_name(Path("/x/a\nb\x1b[31m\udcff.mp4")) == "a\\nb\\x1b[31m\\udcff.mp4"
