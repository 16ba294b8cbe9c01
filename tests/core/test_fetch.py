"""Local sources are read where they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import (
    EmptySource,
    LimitExceeded,
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    UnsupportedSource,
)
from tasks.core.fetch import is_unchanged
from tests.core.sources import CONTENT, DIGEST, get, old
from tests.source_tree import ROOT


@pytest.mark.parametrize(
    "name", ["a b.mp4", "quo'te\".mp4", "new\nline.mp4", "-i.mp4", "100%.mp4", "a:b?c#d.mp4", "\udcff.mp4"]
)
def test_a_local_file_is_read_where_it_is(tmp_path: Path, cache: Path, name: str) -> None:
    path = old(tmp_path / name)
    fetched = get(path, cache)
    assert (fetched.path, fetched.sha256, fetched.media_id) == (path, DIGEST, DIGEST[:32])
    assert (fetched.bytes, fetched.cached) == (len(CONTENT), False)
    assert not list(cache.glob("sources/??/*"))


def test_relative_paths_and_links(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "video.mp4")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link").symlink_to("../video.mp4")
    monkeypatch.chdir(tmp_path / "sub")
    assert get("../video.mp4", cache).path == path
    assert get("link", cache).path == path


def test_a_file_uri_is_percent_decoded(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "ü 100%.mp4")
    assert get(path.as_uri(), cache).path == path
    assert get(f"file://localhost{tmp_path}/%C3%BC%20100%25.mp4", cache).path == path
    for wrong in ("file://server/share/a.mp4", "file://relative.mp4"):
        with pytest.raises(UnsupportedSource, match="file:///absolute"):
            get(wrong, cache)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "video.mp4")
    get(path, cache)
    reads = []
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: reads.append(1))
    assert get(path, cache).cached
    assert not reads


def test_a_changed_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "video.mp4")
    first = get(path, cache)
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (time.time() - 30,) * 2)
    second = get(path, cache)
    assert not second.cached
    assert second.media_id != first.media_id


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(CONTENT)
    get(path, cache)
    assert not get(path, cache).cached


def test_a_file_that_changes_while_it_is_read_has_changed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old(tmp_path / "video.mp4")
    digest = hashlib.file_digest

    def grows(*arguments: Any) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", grows)
    with pytest.raises(SourceChanged, match="tried again"):
        get(path, cache)


def test_what_was_read_is_known_to_have_changed_or_not(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "video.mp4")
    fetched = get(path, cache)
    assert is_unchanged(fetched)
    path.write_bytes(CONTENT + b"more")
    assert not is_unchanged(fetched)
    path.unlink()
    assert not is_unchanged(fetched)


def test_local_failures(tmp_path: Path, cache: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").touch()
    old(tmp_path / "big")
    cases: list[tuple[str, type[ReelflowError]]] = [
        (f"{tmp_path}/none", SourceNotFound),
        (f"{tmp_path}/big/none", SourceNotFound),
        (f"{tmp_path}/{'x' * 300}", SourceNotFound),
        (f"{tmp_path}/nul\0", SourceNotFound),
        ("", SourceNotFound),
        (str(tmp_path), UnsupportedSource),
        (f"{tmp_path}/fifo", UnsupportedSource),
        (f"{tmp_path}/loop", UnsupportedSource),
        ("/dev/null", UnsupportedSource),
        (f"{tmp_path}/empty", EmptySource),
        ("gopher://host/file", UnsupportedSource),
    ]
    for source, error in cases:
        with pytest.raises(error) as caught:
            get(source, cache)
        assert type(caught.value) is error, source
    with pytest.raises(LimitExceeded, match=r"limits\.max_bytes=9999"):
        get(tmp_path / "big", cache, max_bytes=9999)


FAILING_READS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int file, void *into, size_t size) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    if (strstr(path, "/failing-")) { errno = EIO; return -1; }
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(file, into, size);
}
"""
FETCH = """
import sys, pathlib
from tasks.core.errors import ReelflowError
from tests.core.sources import get
try:
    get(sys.argv[1], pathlib.Path(sys.argv[2]))
except ReelflowError as error:
    print(type(error).__mro__[1].__name__, error.code, error.message)
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process in which reads of files named failing-* end with EIO, as on a damaged disk."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("disk") / "failing.so"
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=FAILING_READS, text=True, check=True)
    return os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ((), "PermanentError unreadable"),
        (("failing-2.mp4", "good.mp4"), "PermanentError unreadable"),
        (("failing-2.mp4", "failing-3.mp4"), "SetupError store_unavailable"),
    ],
)
def test_a_disk_that_fails_at_a_file(
    tmp_path: Path, cache: Path, disk: dict[str, str], beside: tuple[str, ...], said: str
) -> None:
    """It is the file's fault while the disk reads what lies beside it, and else the host's."""
    (tmp_path / "disk").mkdir()
    for name in ("failing-1.mp4", *beside):
        old(tmp_path / "disk" / name)
    command = [sys.executable, "-c", FETCH, str(tmp_path / "disk" / "failing-1.mp4"), str(cache)]
    done = subprocess.run(command, env=disk, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said), done.stdout + done.stderr
    assert "failing-1.mp4: the disk fails at it" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "private.mp4")
    path.chmod(0)
    with pytest.raises(PermissionDenied):
        get(path, cache)
