"""Runs of ffmpeg: awkward names, bounds, and whose fault a failure is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import ffmpeg
from tasks.core.errors import CorruptMedia, LimitExceeded, ToolFailed
from tasks.core.sandbox import Bounds, child_cpu_s, run_confined
from tests.source_tree import ROOT

PYTHON = (sys.executable, "-I", "-c")
ROOMY = Bounds(wall_s=20, cpu_s=20)


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


def test_memory_is_bounded() -> None:
    done = run_confined(
        [*PYTHON, "import time; time.sleep(.2); bytearray(1 << 30)"], Bounds(20, 20, memory_bytes=2**29)
    )
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_cpu_time_is_bounded() -> None:
    done = run_confined([*PYTHON, "while True: pass"], Bounds(wall_s=20, cpu_s=1))
    assert done.exceeded == "time"
    assert done.wall_s < 15


def test_a_timeout_takes_the_grandchildren_too(tmp_path: Path) -> None:
    proof = tmp_path / "alive"
    grandchild = f"import time,pathlib; time.sleep(2); pathlib.Path({str(proof)!r}).touch()"
    code = f"import subprocess,sys; subprocess.run([sys.executable, '-I', '-c', {grandchild!r}])"
    assert run_confined([*PYTHON, code], Bounds(wall_s=0.7, cpu_s=20)).exceeded == "time"
    time.sleep(2)
    assert not proof.exists()


def test_stderr_keeps_its_first_and_last_lines() -> None:
    code = "import sys\nprint('first', file=sys.stderr)\nprint('x\\n' * 10**6, file=sys.stderr)\nsys.exit('last')"
    done = run_confined([*PYTHON, code], ROOMY)
    assert done.stderr.startswith("first")
    assert done.stderr.rstrip().endswith("last")
    assert len(done.stderr) < 20_000


def test_stdout_is_bounded() -> None:
    done = run_confined([*PYTHON, "while True: print('x' * 1000)"], ROOMY)
    assert done.exceeded == "output"


def test_the_environment_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    done = run_confined([*PYTHON, "import os; print(sorted(os.environ))"], ROOMY)
    assert b"PATH" in done.stdout
    assert b"AWS" not in done.stdout


def test_peak_memory_is_the_childs_own() -> None:
    """Of a parent of 200 MB or more, as a worker may be; a peak is inherited, this process' own too."""
    code = """
import resource, sys
from tasks.core.sandbox import Bounds, run_confined
parent = b"x" * 200_000_000
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for size in (0, own + 100_000_000):
    peak = run_confined([sys.executable, "-I", "-c", f"b'x' * {size}"], Bounds(60, 60, 2**34)).peak_bytes
    print(peak and peak - size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    small, large = map(int, done.stdout.split())
    assert small == 0
    assert 0 < large < 100e6


def test_cpu_time_of_children_is_counted() -> None:
    before = child_cpu_s()
    done = run_confined([*PYTHON, "sum(range(5 * 10**6))"], ROOMY)
    assert done.cpu_s > 0.02
    assert child_cpu_s() - before == pytest.approx(done.cpu_s)


def test_names_are_printable_in_messages() -> None:
    assert ffmpeg.media_name(Path("/x/a\nb\x1b[31m\udcff.mp4")) == "a\\nb\\x1b[31m\\udcff.mp4"
