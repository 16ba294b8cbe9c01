"""Listings: every object once, in order, filtered; names of any kind; memory that does not grow with the listing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from pydantic import ValidationError

from benchmarks._corpus import HOSTILE
from tasks.core.errors import PermanentError, SourceNotFound, UnsupportedSource
from tasks.core.fetch import fetch
from tasks.core.listing import Listed, Selection, list_media
from tasks.core.options import LimitOptions
from tasks.core.s3 import S3Options
from tasks.core.source_names import display_source
from tests.source_tree import ROOT

ALL = Selection()
OPTIONS = S3Options()


@pytest.fixture
def bucket(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    name = f"list-{abs(hash(request.node.name)) % 10**9}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def _names(prefix: str, selection: Selection = ALL, leave_out: Callable[[str], bool] | None = None) -> list[str]:
    return [found.name for found in list_media(prefix, selection, OPTIONS, leave_out=leave_out)]


def _listed_and_skipped(prefix: Path) -> tuple[list[str], dict[str, str]]:
    """Names that are listed, and by the name of what is skipped its reason code."""
    skipped: dict[str, str] = {}

    def skip(source: str, reason: PermanentError) -> None:
        assert display_source(source) in reason.message
        skipped[os.path.relpath(source, prefix)] = reason.code

    found = list_media(str(prefix), ALL, OPTIONS, skipped=skip)
    return [listed.name for listed in found], skipped


def test_a_folder_is_listed_in_order(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "a.mp4", "b/1.mp4", "c.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert _names(str(tmp_path)) == ["a.mp4", "b/1.mp4", "b/2.mp4", "c.ogg"]
    assert _names(tmp_path.as_uri()) == _names(str(tmp_path))


def test_a_bucket_is_listed_in_order_without_folder_markers(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("in/b.mp4", "in/a.mp4", "in/sub/c.mp4", "other/d.mp4"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    client.put_object(Bucket=bucket, Key="in/sub/", Body=b"")
    assert _names(f"s3://{bucket}/in/") == ["a.mp4", "b.mp4", "sub/c.mp4"]
    first = next(list_media(f"s3://{bucket}/in/", ALL, OPTIONS))
    assert first.source == f"s3://{bucket}/in/a.mp4"


@pytest.mark.parametrize("name", HOSTILE)
def test_any_key_is_listed_and_can_be_fetched(bucket: str, name: str, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key=f"in/{name}", Body=b"content")
    [found] = list_media(f"s3://{bucket}/in/", ALL, OPTIONS)
    assert found.name == name
    fetched = fetch(found.source, tmp_path, LimitOptions(), 2**20)
    assert fetched.path.read_bytes() == b"content"
    assert fetched.version == found.version


def test_any_file_name_is_listed_and_can_be_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [name.replace("/", "_") for name in HOSTILE] + ["new\nline.mp4", os.fsdecode(b"not utf-8 \xff\xfe.mp4")]
    for name in names:
        (folder / name).write_bytes(b"content")
    found = list(list_media(str(folder), ALL, OPTIONS))
    assert len(found) == len(names)
    for listed in found:
        listed.source.encode()
        fetched = fetch(listed.source, tmp_path / "cache", LimitOptions(), 2**20)
        assert fetched.path.read_bytes() == b"content"
        assert fetched.version == listed.version


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(suffixes=[".MP4"]), ["a.mp4", "sub/b.mp4"]),
        (Selection(glob="sub/*"), ["sub/b.mp4"]),
        (Selection(glob="*.mp4"), ["a.mp4", "sub/b.mp4"]),
        (Selection(min_bytes=10), ["sub/b.mp4"]),
        (Selection(max_bytes=9), ["a.mp4", "c.ogg"]),
        (Selection(modified_since=datetime(2020, 1, 1, tzinfo=UTC)), ["c.ogg"]),
    ],
)
def test_a_selection_takes_what_it_says(tmp_path: Path, selection: Selection, taken: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    for name, size, modified in (("a.mp4", 1, 10**9), ("sub/b.mp4", 20, 10**9), ("c.ogg", 1, 1.7e9)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (modified, modified))
    assert _names(str(tmp_path), selection) == taken


def test_a_selection_that_can_take_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_bytes is less than min_bytes"):
        Selection(min_bytes=2, max_bytes=1)


def test_our_own_objects_are_left_out(tmp_path: Path) -> None:
    for name in ("a.mp4", "store/clip.mp4", "store-2/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    ours = (tmp_path / "store").as_uri() + "/"
    assert _names(str(tmp_path), leave_out=lambda uri: uri.startswith(ours)) == ["a.mp4", "store-2/b.mp4"]


def test_a_key_that_ends_like_a_folder_and_holds_data_is_an_object(bucket: str, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="in/talk/", Body=b"content")
    [found] = list_media(f"s3://{bucket}/in/", ALL, OPTIONS)
    assert (found.name, found.source) == ("talk/", f"s3://{bucket}/in/talk/")
    assert fetch(found.source, tmp_path, LimitOptions(), 2**20).path.read_bytes() == b"content"


def test_links_that_lead_nowhere_are_skipped_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"x")
    (folder / "sub" / "self").symlink_to("self")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(folder / "none.mp4")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "good.mp4").symlink_to(folder / "a.mp4")
    assert _listed_and_skipped(folder) == (
        ["a.mp4", "good.mp4"],
        {"gone.mp4": "not_found", "outside": "unsupported_source", "sub/self": "unsupported_source"},
    )


def test_what_vanishes_while_it_is_listed_is_skipped_and_named(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c/d.mp4", "e.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    skipped: dict[str, str] = {}
    listing = list_media(str(tmp_path), ALL, OPTIONS, skipped=lambda source, why: skipped.update({source: why.message}))
    assert next(listing).name == "a.mp4"
    (tmp_path / "b.mp4").unlink()
    shutil.rmtree(tmp_path / "c")
    assert [found.name for found in listing] == ["e.mp4"]
    assert list(skipped) == [f"{tmp_path}/b.mp4", f"{tmp_path}/c"]
    assert all("vanished" in message for message in skipped.values())


UNREADABLE = """
import os, sys
from tasks.core.listing import Selection, list_media
from tasks.core.s3 import S3Options
os.setgid(65534); os.setuid(65534)
named = lambda source, why: print("skipped", os.path.basename(source), why.code)
print(*(found.name for found in list_media(sys.argv[1], Selection(), S3Options(), skipped=named)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be become by root only")
def test_a_folder_that_may_not_be_read_is_skipped_and_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name in ("a.mp4", "private/b.mp4", "z.mp4"):
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).write_bytes(b"x")
        (Path(folder) / "private").chmod(0o700)
        command = [sys.executable, "-c", UNREADABLE, folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["skipped private permission_denied", "a.mp4 z.mp4"]


def test_what_cannot_be_listed_says_so(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(SourceNotFound, match="no such folder"):
        _names(str(tmp_path / "none"))
    with pytest.raises(SourceNotFound, match="no bucket"):
        _names(f"s3://{bucket}-none/in")
    with pytest.raises(UnsupportedSource, match="a backfill reads"):
        _names("https://example.org/")


def test_memory_does_not_grow_with_the_listing(bucket: str) -> None:
    """1,500 keys in pages of 1,000: what is held at the end is no more than what one page takes."""
    client = boto3.client("s3")
    for number in range(1500):
        client.put_object(Bucket=bucket, Key=f"in/{number:05d}", Body=b"")
    listing = list_media(f"s3://{bucket}/in/", ALL, OPTIONS)
    first: Listed = next(listing)
    assert first.name == "00000"
    tracemalloc.start()
    try:
        count = 1 + sum(1 for _ in listing)
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 1500
    assert grown < 30e6


def test_what_ingest_writes_beside_its_windows_is_no_media(tmp_path: Path) -> None:
    key = "camera=gate/2026/11/28/20261128T084853.903Z-00000001.mp4"
    row = "ledger/gaps/camera=gate/2026/11/28/20261128T084853.903Z-stalled.json"
    for name in (key, f"{key}.json", row, "camera=gate/notes.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = [listed.name for listed in list_media(str(tmp_path), Selection(), S3Options())]
    assert found == [key, "camera=gate/notes.json"]
