"""Every store keeps its promises: a folder, buckets on two real S3 servers, one that fails a third of the time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.errors import StoreConflict, StoreUnavailable
from tasks.store import Store, open_existing, open_store, own_objects
from tests.fault_proxy import FaultProxy, Faults


@pytest.fixture(params=["folder", "moto", "moto with faults", "seaweedfs"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def s3_server(request: pytest.FixtureRequest, place: str) -> dict[str, str]:
    environment: dict[str, str] = request.getfixturevalue(
        "seaweedfs_environment" if place == "seaweedfs" else "s3_environment"
    )
    return environment


@pytest.fixture
def store(request: pytest.FixtureRequest, place: str, tmp_path: Path) -> Store:
    if place == "folder":
        open_store.cache_clear()
        return open_store(str(tmp_path / "a store"))
    found: Store = request.getfixturevalue("s3_store")
    if place == "moto with faults":
        proxy: FaultProxy = request.getfixturevalue("proxy")
        proxy.faults = Faults.evenly(0.33, stall_s=0.1)
    return found


def test_what_is_written_is_read(store: Store) -> None:
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"second")
    found = store.read("a/b.json")
    assert found is not None
    assert found[0] == b"second"
    assert store.size("a/b.json") == 6
    assert store.uri("a/b.json") == f"{store.root}/a/b.json"
    assert store.check() == store.guarantee == "atomic"


def test_a_store_exists_when_something_is_in_it_and_a_check_makes_none(store: Store) -> None:
    assert not store.exists()
    store.check()
    assert not store.exists()
    store.write("a/b", b"1")
    assert store.exists()
    assert open_existing(store.address).root == store.root


def test_a_store_that_does_not_exist_is_not_opened_for_reading(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="There is no store at"):
        open_existing(store.address)


def test_missing_objects_are_none(store: Store) -> None:
    assert store.read("no/such") is None
    assert store.size("no/such") is None
    store.delete("no/such")
    with pytest.raises(StoreUnavailable, match="missing from the store"):
        store.local("no/such")
    with pytest.raises(StoreUnavailable, match="missing from the store"):
        store.local("no/such", version="1")


@pytest.mark.parametrize("size", [0, 100_000, 17 * 2**20])
def test_files_are_put_whole_and_read_as_files(store: Store, size: int) -> None:
    content = os.urandom(size)
    with store.workspace() as work:
        (work / "x").write_bytes(content)
        store.put("files/x.bin", work / "x")
        assert not (work / "x").exists()
    assert store.local("files/x.bin").read_bytes() == content
    assert store.size("files/x.bin") == size
    assert not work.exists()


def test_a_local_file_follows_its_object(store: Store) -> None:
    for content in (b"first", b"first", b"second"):
        store.write("x", content)
        assert store.local("x").read_bytes() == content
    store.delete("x")
    with pytest.raises(StoreUnavailable, match="missing"):
        store.local("x")


def test_what_is_put_under_a_version_is_read_under_it(store: Store, make_file: Callable[..., Path]) -> None:
    store.put("a/x.flac", make_file(b"sound"), version="7")
    local = store.local("a/x.flac", version="7")
    assert (local.read_bytes(), local.suffix) == (b"sound", ".flac")
    store.write("a/x.flac", b"another")
    assert store.local("a/x.flac", version="8").read_bytes() == b"another"


def test_listing_is_sorted_and_bounded_by_its_folder(store: Store, place: str) -> None:
    names = ["m/2/x", "m/1/x", "m/1-a", "m/1/x.y", "m/é ü?#%20", "mm/1", "n/1"]
    for name in names:
        store.write(name, name.encode())
    store.commit("m/committed", b"1", None)
    assert _in_order(store.list("m"), place) == sorted([*names[:5], "m/committed"], key=str.encode)
    assert list(store.list("m")) == list(store.list("m/"))
    assert _in_order(store.list(""), place) == sorted([*names, "m/committed"], key=str.encode)
    assert list(store.list("no/such")) == []
    [found] = store.scan("n")
    assert (found.path, found.bytes) == ("n/1", 3)
    assert abs(found.modified - Path(__file__).stat().st_atime) < 10**9


def test_folders_are_named_once_whatever_lies_in_them(store: Store) -> None:
    for name in ("m/b/x", "m/b/y/z", "m/a%2Fé ü/x", "m/file", "mm/c/x"):
        store.write(name, b".")
    store.commit("m/committed", b"1", None)  # where stores leave what is their own
    assert list(store.folders("m")) == list(store.folders("m/")) == ["a%2Fé ü", "b"]
    assert list(store.folders("")) == ["m", "mm"]
    assert list(store.folders("no/such")) == []


def _in_order(paths: Iterator[str], place: str) -> list[str]:
    """SeaweedFS goes folder by folder; elsewhere the order is that of the bytes."""
    return sorted(paths, key=str.encode) if place == "seaweedfs" else list(paths)


def test_listing_gives_the_first_before_it_has_seen_the_last(store: Store) -> None:
    store.write("a/1", b".")
    store.write("b/1", b".")
    listing = store.scan("")
    assert next(listing).path == "a/1"
    listing.close()  # type: ignore[attr-defined]


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


def test_who_finds_its_own_data_has_won(store: Store) -> None:
    store.commit("result.json", b"mine", None)
    store.commit("result.json", b"mine", None)
    store.commit("result.json", b"mine", "a tag of long ago")
    found = store.read("result.json")
    assert found is not None
    assert found[0] == b"mine"
    with pytest.raises(StoreConflict):
        store.commit("result.json", b"another's", "a tag of long ago")


def test_a_commit_over_a_deleted_object_is_a_conflict(store: Store) -> None:
    store.write("x", b"1")
    found = store.read("x")
    assert found is not None
    store.delete("x")
    with pytest.raises(StoreConflict):
        store.commit("x", b"2", found[1])
    assert store.read("x") is None


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


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_links_are_short_lived(store: Store, seconds: int) -> None:
    with pytest.raises(ValueError, match="3600"):
        store.link("x", seconds)


def test_a_link_to_a_folder_is_its_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.write("a b.json", b"x")
    assert store.link("a b.json", 60) == (tmp_path / "store" / "a b.json").as_uri()


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


def test_what_is_ours_in_a_store_is_told_from_what_lies_beside_it(tmp_path: Path) -> None:
    ours = own_objects(open_store(str(tmp_path)))
    digest = "0123456789abcdef" * 2
    for path in (
        f"media/{digest}/clips/{digest}/clip_0000.mp4", f"quarantine/{digest}.json", f"sources/{digest}.json",
        "tables/words/media_id=x/part.parquet", "text_banks/default/0a-1b.npz", "index/media.lance/data/1.lance",
        "index/index.json", f"reports/{digest}/report.html", f"rooms/{digest}.json", ".work/x/object",
        ".reelflow/probe-1",
    ):  # fmt: skip
        assert ours((tmp_path / path).as_uri()), path
    for path in ("talk.mp4", "in/talk.mp4", "media/talk.mp4", "media/2026/talk.mp4", "index/talk.mp4", "tables/a.mp4"):
        assert not ours((tmp_path / path).as_uri()), path
    assert not ours((tmp_path.parent / "other" / "media" / digest / "x").as_uri())


def test_what_is_put_with_a_file_is_read_with_it(store: Store) -> None:
    for size in (10, 17 * 2**20):
        with store.workspace() as work:
            (work / "x").write_bytes(bytes(size))
            store.put(
                "a/x.mp4", work / "x", metadata={"frame_count": 75, "aligned": True, "start": "2026-11-28T08:00Z"}
            )
        found = store.metadata("a/x.mp4")
        assert found is not None
        named = {name.replace("-", "_"): str(value).lower() for name, value in found.items()}
        assert named == {"frame_count": "75", "aligned": "true", "start": "2026-11-28t08:00z"}
        assert store.size("a/x.mp4") == size
    store.write("a/plain", b"1")
    assert store.metadata("a/plain") == {}
    assert store.metadata("a/none") is None
