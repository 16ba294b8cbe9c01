"""What headers say of size and length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.promises import Promise, promised
from tests import media


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".wav", ".avi", ".w64", ".wma"])
def test_a_whole_file_is_what_it_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"whole{suffix}"
    media.ffmpeg("-f", "lavfi", "-i", "sine=d=3:r=44100", path)
    promise = promised(path)
    assert promise.bytes == pytest.approx(path.stat().st_size, abs=8)
    assert promise.end_s == (pytest.approx(3.0, abs=0.1) if suffix == ".wma" else None)
    assert promise.is_kept(path.stat().st_size)
    assert not promise.is_kept(path.stat().st_size * 9 // 10)


def test_a_live_asf_promises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.wma"
    media.ffmpeg("-f", "lavfi", "-i", "sine=d=3", path)
    data = bytearray(path.read_bytes())
    at = data.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    data[at + 88] |= 1
    assert promised(write(path, bytes(data))) == Promise()
    for length in (0, 10, 40, at + 50):
        assert promised(write(path, bytes(data[:length]))) == Promise()


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\xff\x7f"])
def test_a_program_that_streams_knows_no_size(tmp_path: Path, size: bytes) -> None:
    assert promised(write(tmp_path / "a.wav", b"RIFF" + size + b"WAVEfmt ")).is_kept(100)
