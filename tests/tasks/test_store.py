"""Every store keeps the same promises: a folder, and a bucket on a real S3 server over HTTP (moto)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from tasks.core.errors import StoreConflict, StoreUnavailable
from tasks.store import Store, open_store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    open_store.cache_clear()
    if request.param == "folder":
        return open_store(str(tmp_path / "a store"))
    for name, value in request.getfixturevalue("s3_environment").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))
    bucket = f"b{abs(hash(request.node.name)) % 10**9}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return open_store(f"s3://{bucket}/some/prefix")


def test_what_is_written_is_read(store: Store) -> None:
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"second")
    found = store.read("a/b.json")
    assert found is not None
    assert found[0] == b"second"
    assert store.size("a/b.json") == 6
    assert store.uri("a/b.json") == f"{store.root}/a/b.json"


def test_missing_objects_are_none(store: Store) -> None:
    assert store.read("no/such") is None
    assert store.size("no/such") is None
    store.delete("no/such")
    with pytest.raises(StoreUnavailable, match="missing from the store"):
        store.local("no/such")


def test_files_are_put_whole_and_read_as_files(store: Store) -> None:
    with store.workspace() as work:
        (work / "x").write_bytes(b"0" * 100_000)
        store.put("files/x.bin", work / "x")
    assert store.local("files/x.bin").read_bytes() == b"0" * 100_000
    assert not work.exists()


def test_listing_is_sorted_and_bounded_by_prefix(store: Store) -> None:
    for name in ("m/2/x", "m/1/x", "n/1"):
        store.write(name, b".")
    assert list(store.list("m")) == ["m/1/x", "m/2/x"]


def test_commit_happens_once(store: Store) -> None:
    store.commit("result.json", b"first", None)
    with pytest.raises(StoreConflict):
        store.commit("result.json", b"late", None)
    found = store.read("result.json")
    assert found is not None
    store.commit("result.json", b"second", found[1])
    with pytest.raises(StoreConflict):
        store.commit("result.json", b"stale", found[1])
    after = store.read("result.json")
    assert after is not None
    assert after[0] == b"second"


def test_of_many_concurrent_commits_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> bool:
        barrier.wait()
        try:
            store.commit("race.json", str(number).encode(), None)
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert won.count(True) == 1
    found = store.read("race.json")
    assert found is not None
    assert found[0] == str(won.index(True)).encode()


def test_a_folder_store_keeps_inside_its_root(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "root"))
    with pytest.raises(StoreUnavailable, match="outside the store"):
        store.write("../escape", b"x")


def test_a_store_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="REELFLOW_STORE"):
        open_store(str(tmp_path / "file" / "store")).write("x", b"x")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match="s3://"):
        open_store("ftp://host/x")
