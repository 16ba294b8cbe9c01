"""A page that was cut gives the packets that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tasks.core.ogg_tail import cut_tail
from tasks.core.recordings import RecordingFile, recordings
from tests import media

PAGE_S = {"long": "20000000", "short": "200000"}
"""All of a file in one page, or five pages a second; in microseconds."""


def clicks(source: Any) -> tuple[list[float], float]:
    """Times of clicks, and length."""
    with av.open(source, "r") as container:
        frames = list(container.decode(audio=0))
        sound = [sample for frame in frames for sample in frame.to_ndarray()[0]]
    return media.find_clicks(np.array(sound, np.float32), 48_000), len(sound) / 48_000


def spoken(path: Path, pages: str) -> Path:
    whole = media.audio_only(path.with_name("whole.ogg"))
    media.ffmpeg("-i", whole, "-c", "copy", "-page_duration", PAGE_S[pages], path)
    return path


@pytest.mark.parametrize("pages", PAGE_S)
def test_a_file_that_ends_within_a_page(tmp_path: Path, pages: str) -> None:
    path = spoken(tmp_path / "cut.ogg", pages)
    assert cut_tail(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    tail = cut_tail(path)
    assert tail is not None
    assert tail.lost > 0
    with RecordingFile(path, recordings(path)[0]) as mended:
        found, length_s = clicks(mended)
    assert length_s == pytest.approx(3.0, abs=0.4)
    assert found[:2] == pytest.approx(media.CLICKS[:2], abs=0.01)
    if pages == "long":
        assert length_s + tail.lost / 48_000 == pytest.approx(4.0, abs=0.05)
        with pytest.raises(av.FFmpegError):
            clicks(str(path))


def test_a_page_without_a_whole_packet_is_left_out(tmp_path: Path) -> None:
    path = spoken(tmp_path / "cut.ogg", "short")
    data = path.read_bytes()
    last = data.rindex(b"OggS")
    path.write_bytes(data[: last + 27 + data[last + 26] + 1])
    tail = cut_tail(path)
    assert tail is not None
    assert (tail.start, tail.page) == (last, b"")


@pytest.mark.parametrize("content", [b"", b"OggS", b"RIFF" + bytes(100), b"OggS" + bytes(100)])
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert cut_tail(path) is None


def test_a_mended_file_reads_like_a_file(tmp_path: Path) -> None:
    path = spoken(tmp_path / "cut.ogg", "long")
    path.write_bytes(path.read_bytes()[:-200])
    tail = cut_tail(path)
    assert tail is not None
    whole = path.read_bytes()[: tail.start] + tail.page
    with RecordingFile(path, recordings(path)[0]) as mended:
        assert b"".join(iter(lambda: mended.read(37), b"")) == whole
        assert mended.seek(-5, 2) == len(whole) - 5
        assert mended.read() == whole[-5:]
        assert mended.seek(3) == mended.tell() == 3
        assert mended.read(4) == whole[3:7]
