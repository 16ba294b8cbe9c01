"""What is lost is damage, with its seconds; what is intact is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.audio import extract_audio
from tasks.core.damage import lost_seconds
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.packet_meter import BLOCK
from tasks.core.probe import probe
from tasks.core.publish.assemble import checked
from tasks.core.schema import Damage, MediaInfo
from tests import media

Sample = Callable[..., Path]
SECONDS = 12.0
CODECS = {
    ".mp3": "libmp3lame", ".flac": "flac", ".ogg": "libvorbis", ".wav": "pcm_s16le", ".ts": "aac", ".ac3": "ac3",
    ".w64": "pcm_s16le", ".caf": "pcm_s16be", ".aiff": "pcm_s16be", ".au": "pcm_s16be", ".wma": "wmav2",
    ".wv": "wavpack", ".avi": "libmp3lame",
}  # fmt: skip


def noise(path: Path, *options: str) -> Path:
    """Sound that is never still, 44.1 kHz; in an AVI file with pictures."""
    source = f"anoisesrc=d={SECONDS}:a=0.3:seed=3:r=44100"
    pictures = ["-f", "lavfi", "-i", f"testsrc2=s=176x144:r=25:d={SECONDS}"] if path.suffix == ".avi" else []
    media.ffmpeg(*pictures, "-f", "lavfi", "-i", source, "-c:a", CODECS.get(path.suffix, "aac"), *options, path)
    return path


def look(path: Path) -> MediaInfo:
    info = probe(path, LimitOptions(), AudioOptions())
    return checked(info, extract_audio(path, info, path.with_suffix(".track.flac")))


def without_a_quarter(path: Path, *, zeros: bool) -> Path:
    """A quarter of the bytes set to zero in the middle, or cut off the end."""
    data = bytearray(path.read_bytes())
    half, rest = len(data) // 2, len(data) * 3 // 4
    if zeros:
        data[half:rest] = bytes(rest - half)
    path.write_bytes(data if zeros else data[:rest])
    return path


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".flac", ".ogg", ".ts", ".ac3", ".aac", ".mkv", ".flv"])
def test_a_zeroed_quarter(tmp_path: Path, suffix: str) -> None:
    info = look(without_a_quarter(noise(tmp_path / f"zeros{suffix}"), zeros=True))
    assert info.damaged
    assert info.lost_s >= 0.2 * SECONDS
    whole_rest = suffix == ".mkv"  # libavformat finds no cluster behind zeros
    assert info.lost_s <= (0.55 if whole_rest else 0.35) * SECONDS
    assert 0.3 * SECONDS < info.damage[0].start < 0.6 * SECONDS


SOUND = [".wav", ".w64", ".caf", ".aiff", ".au"]
INDEXED = [".mp3", ".flac", ".m4a", ".mkv", ".flv", ".wma", ".wv", ".avi"]


@pytest.mark.parametrize("suffix", SOUND)
def test_blank_disk_blocks(tmp_path: Path, suffix: str) -> None:
    """Zeros within sound that is not coded are silence, unless they are whole blocks of a disk."""
    path = noise(tmp_path / f"blank{suffix}")
    whole = path.read_bytes()
    start, end = len(whole) // 2 // BLOCK * BLOCK, len(whole) * 3 // 4 // BLOCK * BLOCK
    path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
    info = look(path)
    assert info.lost_s == pytest.approx(0.25 * SECONDS, abs=0.1)
    [damage] = info.damage
    assert damage.kind == "undecodable"
    assert damage.start == pytest.approx(0.5 * SECONDS, abs=0.1)
    path.write_bytes(whole[: start - 20] + bytes(end - start + 40) + whole[end + 20 :])
    assert not look(path).damaged, "someone muted it"
    path.write_bytes(whole[:-BLOCK] + bytes(BLOCK))
    assert not look(path).damaged, "it ends in silence"


@pytest.mark.parametrize("suffix", [".wma", ".avi", ".w64", ".caf"])
def test_a_quarter_that_is_missing_within(tmp_path: Path, suffix: str) -> None:
    path = noise(tmp_path / f"hole{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[len(data) * 3 // 4 :])
    info = look(path)
    assert info.damaged
    assert info.lost_s == pytest.approx(0.25 * SECONDS, abs=0.5)


@pytest.mark.parametrize("suffix", [*SOUND, *INDEXED])
def test_a_quarter_cut_off(tmp_path: Path, suffix: str) -> None:
    options = ["-movflags", "faststart"] if suffix == ".m4a" else []
    info = look(without_a_quarter(noise(tmp_path / f"cut{suffix}", *options), zeros=False))
    assert info.duration_s == pytest.approx(0.75 * SECONDS, abs=0.5)
    assert info.damaged
    assert info.lost_s == pytest.approx(0.25 * SECONDS, abs=0.5)
    assert info.damage[-1].kind == "cut_short"


@pytest.mark.parametrize("suffix", [*SOUND, *INDEXED, ".ogg", ".ts", ".ac3", ".aac"])
def test_an_intact_file(tmp_path: Path, suffix: str) -> None:
    info = look(noise(tmp_path / f"whole{suffix}"))
    assert (info.damaged, info.lost_s, info.damage) == (False, 0.0, [])
    assert info.duration_s == pytest.approx(SECONDS, abs=0.06)


def test_a_wav_that_states_less_than_it_holds(shared_cases: Path, tmp_path: Path) -> None:
    path = tmp_path / "quarter.wav"
    path.write_bytes((shared_cases / "wav_quarter_len.wav").read_bytes())
    info = look(path)
    assert (info.duration_s, info.damaged) == (2.75, True)
    assert info.lost_s == pytest.approx(8.25)


def test_chunks_behind_the_sound_are_no_sound(tmp_path: Path) -> None:
    path = noise(tmp_path / "tagged.wav")
    path.write_bytes(path.read_bytes() + b"LIST" + (10_000).to_bytes(4, "little") + bytes(10_000))
    assert not look(path).damaged


def test_packets_that_do_not_decode(tmp_path: Path) -> None:
    """Overwritten with something else than zeros: only decoding tells."""
    path = noise(tmp_path / "sour.m4a")
    data = bytearray(path.read_bytes())
    half, rest = len(data) // 2, len(data) * 3 // 4
    data[half:rest] = b"\xa5" * (rest - half)
    path.write_bytes(data)
    info = look(path)
    assert info.damaged
    assert info.lost_s == pytest.approx(0.25 * SECONDS, abs=0.6)
    assert {one.kind for one in info.damage} == {"undecodable"}


def test_lost_seconds_are_those_of_the_stream_that_lost_most() -> None:
    lost = [("video", 2.0), ("audio", 1.0), ("audio", 1.5), (None, 0.5)]
    damage = [Damage(start=0, end=s, lost_s=s, kind="missing", stream=of) for of, s in lost]
    assert lost_seconds(damage) == 3.0
