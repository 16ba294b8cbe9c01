"""The cache of sources: bounded, shared by processes, never trusted when it is damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.core import source_cache
from tasks.core.errors import LimitExceeded, StoreUnavailable
from tasks.core.fetch import hold
from tasks.core.source_cache import SourceCache
from tests.core.sources import DIGEST, Site, get, old


def add(cache: SourceCache, content: bytes, age_s: float = 10_000) -> Path:
    path, _, _ = cache.add([content], "test", 2**20)
    for file in (path, path.with_name(f"{path.name}.seen")):
        os.utime(file, (time.time() - age_s,) * 2)
    return path


def test_the_least_recently_used_goes_first(cache: Path) -> None:
    small = SourceCache(cache, 2500)
    first, second = add(small, b"1" * 1000, 9000), add(small, b"2" * 1000, 9999)
    third = add(small, b"3" * 1000)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def test_what_is_held_or_was_just_used_stays(cache: Path) -> None:
    small = SourceCache(cache, 1500)
    held = add(small, b"1" * 1000)
    with hold(held):
        fresh = add(small, b"2" * 1000, 1)
        add(small, b"3" * 1000)
        assert held.exists()
    assert fresh.exists()
    add(small, b"4" * 1000)
    assert not held.exists()


def test_a_source_larger_than_the_cache(site: str, cache: Path) -> None:
    with pytest.raises(LimitExceeded, match="raise REELFLOW_CACHE_BYTES"):
        get(f"{site}/video.mp4", cache, cache_bytes=5000, allow_private_hosts=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="is full"):
        get(f"{site}/video.mp4", cache, allow_private_hosts=True)
    assert not list(cache.rglob("*.part"))


def test_a_disk_without_room_is_seen_beforehand(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(StoreUnavailable, match="is full"):
        get(f"{site}/video.mp4", cache, allow_private_hosts=True)


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="REELFLOW_CACHE_DIR"):
        get(old(tmp_path / "video.mp4"), tmp_path / "file")


def test_leftovers_of_a_killed_download_go(cache: Path) -> None:
    small = SourceCache(cache, 10**6)
    dead, living = small.parts / "dead.part", small.parts / "living.part"
    for path in (dead, living):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 2 * source_cache.STALE_S,) * 2)
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        add(small, b"1")
    assert (dead.exists(), living.exists()) == (False, True)


def test_a_damaged_index_counts_as_none(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "video.mp4")
    get(path, cache)
    for entry in cache.rglob("*.json"):
        entry.write_text('{"sha256": ')
    assert get(path, cache).sha256 == DIGEST


def test_processes_that_ask_at_once_read_once(site: str, cache: Path) -> None:
    code = f"""
from pathlib import Path
from tasks.core.fetch import fetch
from tasks.core.options import LimitOptions
print(fetch("{site}/video.mp4", Path({str(cache)!r}), LimitOptions(), 10**6, allow_private_hosts=True).cached)
"""
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    children = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    assert answers == ["False", "True", "True"]
    assert sorted(tag or "" for _, tag in Site.asked) == ["", '"v1"', '"v1"']
