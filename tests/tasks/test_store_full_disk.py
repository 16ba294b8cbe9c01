"""A full disk is said to be full, whatever tool or library met it, and is never taken for bad media."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import CorruptMedia, StoreUnavailable
from tasks.store import Store
from tasks.store.workspace import STALE_S, scratch_file, workspace
from tests.source_tree import ROOT


def test_a_disk_that_fills_up_is_never_the_medias_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is full; free some space"), workspace(tmp_path, "look elsewhere"):
        raise CorruptMedia(
            "x.mp4: nothing could be decoded", detail="av_interleaved_write_frame(): No space left on device"
        )
    with pytest.raises(StoreUnavailable, match="look elsewhere"), workspace(tmp_path, "look elsewhere"):
        raise RuntimeError("a library wraps it") from OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CorruptMedia), workspace(tmp_path, "look elsewhere"):
        raise CorruptMedia("x.mp4: bad")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_after_a_while(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for left in (old, new):
        left.write_text("half of an object")
        (tmp_path / f"{left.name}-folder").mkdir()
    for left in (old, tmp_path / "old-folder"):
        os.utime(left, (time.time() - 2 * STALE_S,) * 2)
    with workspace(tmp_path, "look elsewhere"):
        pass
    assert {left.name for left in tmp_path.iterdir()} == {"new", "new-folder"}


def test_a_file_that_was_not_written_whole_is_not_left(tmp_path: Path) -> None:
    def write() -> None:
        with scratch_file(tmp_path, "look elsewhere") as file:
            file.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreUnavailable, match="is full"):
        write()
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import sys
from pathlib import Path
from tasks.core import ffmpeg
from tasks.core.errors import StoreUnavailable
from tasks.store import open_store

disk, what, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = open_store(address)

def fill():
    with (disk / "filler").open("wb") as file:
        try:
            while True:
                file.write(bytes(2**16))
                file.flush()
        except OSError:
            pass

def write():
    fill()
    store.write("a", bytes(2**20))

def body():
    with store.workspace() as out:
        (out / "a").write_bytes(bytes(2**24))

def tool():
    import ffmpeg as graph
    from tasks.core.ffmpeg import run, write_to
    with store.workspace() as out:
        source = graph.input("testsrc=size=1280x720:rate=50:duration=60", format="lavfi")
        run(write_to(out / "x.mkv", source, vcodec="ffv1"), media=Path("x.mp4"), timeout_s=60)

def local():
    fill()
    store.local("large")

try:
    {"write": write, "body": body, "tool": tool, "local": local}[what]()
except StoreUnavailable as error:
    print(error.message)
"""


@pytest.mark.parametrize(
    ("kind", "what"),
    [("folder", "write"), ("folder", "body"), ("folder", "tool"), ("s3", "local"), ("s3", "body"), ("s3", "tool")],
)
def test_a_full_disk(kind: str, what: str, s3_store: Store, tmp_path: Path, make_file: Callable[..., Path]) -> None:
    """A disk of 4 MiB of its own (tmpfs in a mount namespace), filled for real."""
    disk = tmp_path / "disk"
    disk.mkdir()
    s3_store.put("large", make_file(bytes(2**20)))
    address = s3_store.address if kind == "s3" else str(disk / "store")
    mount = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1" "$4" "$5"'
    arguments = [str(disk), sys.executable, FULL_DISK, what, address]
    environment = os.environ | {"REELFLOW_CACHE_DIR": str(disk / "cache"), "PYTHONPATH": str(ROOT)}
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for this user")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    [said] = done.stdout.splitlines()
    assert said.startswith("The disk of ")
    assert "is full; free some space, or" in said
    assert ("REELFLOW_STORE" if kind == "folder" else "REELFLOW_CACHE_DIR") in said
