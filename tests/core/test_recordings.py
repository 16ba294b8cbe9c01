"""Where recordings begin that someone appended to a file."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from tasks.core.recordings import MOST_RECORDINGS, Recording, RecordingFile, recordings
from tests import media


def made(path: Path, *options: str, seconds: float = 1.0) -> bytes:
    pictures = path.suffix in (".mp4", ".flv", ".avi")
    source = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=10:d={seconds}"] if pictures else []
    media.ffmpeg(*source, "-f", "lavfi", "-i", f"sine=d={seconds}:r=44100", *options, path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".flv", ".avi", ".wav", ".m4a"])
def test_appended_files_begin_where_they_begin(tmp_path: Path, suffix: str) -> None:
    first, second = made(tmp_path / f"a{suffix}"), made(tmp_path / f"b{suffix}", seconds=2)
    path = tmp_path / f"all{suffix}"
    path.write_bytes(first + second + first)
    ends = [0, len(first), len(first + second), len(first + second + first)]
    found = recordings(path)
    assert found == [Recording(start, end) for start, end in pairwise(ends)]
    with RecordingFile(path, found[1]) as file:
        assert file.read() == second


@pytest.mark.parametrize("suffix", [".mp4", ".flv", ".avi", ".wav", ".ogg", ".mka", ".mp3"])
def test_a_whole_file_is_one_recording(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = made(path)
    assert recordings(path) == [Recording(0, len(data))]


def test_fragments_behind_a_repeated_index_are_of_the_same_recording(tmp_path: Path) -> None:
    """Segments of a stream that someone put together, each with the header of all."""
    data = made(tmp_path / "a.mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-g", "5")
    path = tmp_path / "all.mp4"
    path.write_bytes(data * 2)
    assert recordings(path) == [Recording(0, 2 * len(data))]
    other = made(tmp_path / "b.mp4", "-movflags", "frag_keyframe+empty_moov", "-s", "32x24")
    path.write_bytes(data + other)
    assert len(recordings(path)) == 2


def test_ogg_streams_are_told_apart_where_their_form_changes(tmp_path: Path) -> None:
    mono, stereo = made(tmp_path / "a.ogg"), made(tmp_path / "b.ogg", "-ac", "2")
    path = tmp_path / "all.ogg"
    path.write_bytes(mono + mono + stereo + stereo + mono)
    starts = [recording.start for recording in recordings(path)]
    assert starts == [0, len(mono * 2), len(mono * 2 + stereo * 2)]
    flac = made(tmp_path / "a.oga", "-c:a", "flac") + made(tmp_path / "b.oga", "-c:a", "flac", "-ac", "2")
    path.write_bytes(flac)
    assert len(recordings(path)) == 1, "libavformat follows"


def test_damage_hides_no_recording_behind_it(tmp_path: Path) -> None:
    for suffix, options in ((".flv", []), (".ogg", ["-page_duration", "100000"])):
        first, second = bytearray(made(tmp_path / f"a{suffix}", *options)), made(tmp_path / f"b{suffix}", "-ac", "2")
        first[len(first) // 2 : len(first) // 2 + 300] = bytes(300)
        path = tmp_path / f"all{suffix}"
        path.write_bytes(first + second)
        assert [recording.start for recording in recordings(path)] == [0, len(first)]


HEADS = [
    b"RIFF\0\0\0\0WAVE",
    b"RIFF\xff\xff\xff\xffAVI ",
    b"\0\0\0\0ftyp",
    b"\0\0\0\1ftypisom",
    b"OggS",
    b"OggS\0\2" + bytes(20),
    b"FLV\1",
    b"FLV\1\5\0\0\0\x09",
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rest", [b"", bytes(100), b"\xff" * 100])
def test_ruins_are_one_recording(tmp_path: Path, head: bytes, rest: bytes) -> None:
    path = tmp_path / "ruin"
    path.write_bytes(head + rest)
    assert [recording.start for recording in recordings(path)] == [0]


def test_recordings_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "many.flv"
    path.write_bytes(b"FLV\1\5\0\0\0\x09\0\0\0\0" * (MOST_RECORDINGS + 10))
    assert len(recordings(path)) == MOST_RECORDINGS


@pytest.mark.parametrize("part", [b"\0\0\0\x08free", b"OggS" + bytes(23), b"\x08" + bytes(14), b"RIFF\x04\0\0\0AVIX"])
def test_a_heap_of_nothing_is_given_up(tmp_path: Path, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {8: b"\0\0\0\x08ftyp", 27: b"OggS" + bytes(23), 15: b"FLV\1\5\0\0\0\x09\0\0\0\0", 12: b"RIFF\x04\0\0\0AVI "}
    looked: list[int] = []
    read = os.pread

    def count(file: int, size: int, place: int) -> bytes:
        looked.append(place)
        return read(file, size, place)

    path = tmp_path / "heap"
    path.write_bytes(heads[len(part)] + part * 1000)
    monkeypatch.setattr("tasks.core.recordings.MOST_STEPS", 100)
    monkeypatch.setattr(os, "pread", count)
    assert len(recordings(path)) == 1
    assert 50 < len(looked) <= 210
