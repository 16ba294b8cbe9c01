"""Links in folders and forged leases: what lies in an inbox or a store says nothing about other files, nor for ever."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import PermanentError, StoreConflict, StoreUnavailable
from tasks.core.listing import Selection, list_media
from tasks.core.s3 import S3Options
from tasks.records import lease
from tasks.records.lease import exclusive
from tasks.store import Store
from tasks.store.folder import FolderStore

SECRET = b"of another user of the host"
MEDIA = "0" * 32
LEASE = f"media/{MEDIA}/lease.json"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.mp4").write_bytes(SECRET)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "store").mkdir()
    return FolderStore(str(tmp_path / "store"))


def test_a_link_in_an_inbox_brings_nothing_from_elsewhere(tmp_path: Path, outside: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "own.mp4").write_bytes(b"film")
    (inbox / "again.mp4").symlink_to("own.mp4")
    (inbox / "file.mp4").symlink_to(outside / "secret.mp4")
    (inbox / "relative.mp4").symlink_to("../outside/secret.mp4")
    (inbox / "folder").symlink_to(outside)
    (inbox / "chain.mp4").symlink_to("file.mp4")
    (inbox / "device.mp4").symlink_to("/dev/zero")
    skipped: dict[str, str] = {}

    def skip(source: str, reason: PermanentError) -> None:
        skipped[Path(source).name] = reason.message

    listed = [found.name for found in list_media(str(inbox), Selection(), S3Options(), skipped=skip)]
    assert listed == ["again.mp4", "own.mp4"]
    assert set(skipped) == {"file.mp4", "relative.mp4", "folder", "chain.mp4", "device.mp4"}
    assert all("link out of this folder is not followed" in message for message in skipped.values())


READERS: dict[str, Callable[[FolderStore, str], object]] = {
    "read": lambda store, path: store.read(path),
    "size": lambda store, path: store.size(path),
    "local": lambda store, path: store.local(path),
    "link": lambda store, path: store.link(path),
    "write": lambda store, path: store.write(path, b"overwritten"),
    "commit": lambda store, path: store.commit(path, b"overwritten", None),
    "delete": lambda store, path: store.delete(path),
    "list": lambda store, path: list(store.list(path)),
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("path", ["linked/secret.mp4", "secret.mp4", "hop/secret.mp4", "twice/deep/secret.mp4"])
def test_no_link_in_a_store_is_followed(store: FolderStore, outside: Path, how: str, path: str) -> None:
    root = Path(store.root.removeprefix("file://"))
    (root / "linked").symlink_to(outside)
    (root / "secret.mp4").symlink_to(outside / "secret.mp4")
    (root / "hop").symlink_to("linked")
    (root / "twice").mkdir()
    (root / "twice" / "deep").symlink_to("../../outside")
    with pytest.raises(StoreUnavailable, match="not followed"):
        READERS[how](store, path)
    assert (outside / "secret.mp4").read_bytes() == SECRET
    assert sorted(path.name for path in outside.iterdir()) == ["secret.mp4"]


def test_a_link_in_a_store_is_not_listed(store: FolderStore, outside: Path) -> None:
    root = Path(store.root.removeprefix("file://"))
    store.write("media/own", b"x")
    (root / "media" / "secret.mp4").symlink_to(outside / "secret.mp4")
    (root / "linked").symlink_to(outside)
    assert list(store.list("")) == ["media/own"]


@pytest.mark.parametrize("name", [".work", ".locks"])
def test_a_store_tidies_up_nowhere_else(store: FolderStore, outside: Path, name: str) -> None:
    """Its folder of leftovers is swept; a link in its place would have others' folders swept."""
    (outside / "theirs").mkdir()
    os.utime(outside / "theirs", (0, 0))
    Path(store.root.removeprefix("file://"), name).symlink_to(outside)
    with pytest.raises(StoreUnavailable, match="not followed"):
        store.commit("media/own", b"x", None)
    assert sorted(path.name for path in outside.iterdir()) == ["secret.mp4", "theirs"]


def test_the_root_of_a_store_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "named").symlink_to(outside)
    store = FolderStore(str(tmp_path / "named"))
    store.write("a", b"1")
    assert (outside / "a").read_bytes() == b"1"


def _lease(**said: object) -> bytes:
    return json.dumps({"owner": "x", "host": "elsewhere", "pid": 1, "process_start": "1", "term_s": 30} | said).encode()


@pytest.mark.parametrize(
    "forged",
    [_lease(term_s=1e18), _lease(term_s="inf"), _lease(term_s=-1), _lease(term_s=301), _lease(owner=None), b"{", b"",
     b"[" * 100_000, b"\xff\xfe"],
    ids=["1e18 s", "inf", "negative", "301 s", "no owner", "cut off", "empty", "nested", "binary"],
)  # fmt: skip
def test_a_forged_lease_holds_nothing(store: Store, forged: bytes) -> None:
    store.write(LEASE, forged)
    started = time.monotonic()
    with exclusive(store, MEDIA):
        assert time.monotonic() - started < 5
    assert store.read(LEASE) is None


def test_a_lease_that_is_renewed_for_ever_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another run that hangs, or by whoever writes to the store."""
    monkeypatch.setattr(lease, "MOST_WAIT_S", 1.0)
    ended = threading.Event()

    def renew() -> None:
        number = 0
        while not ended.wait(0.2):
            number += 1
            store.write(LEASE, _lease(renewals=number, term_s=300))

    store.write(LEASE, _lease(term_s=300))
    renewing = threading.Thread(target=renew)
    renewing.start()
    started = time.monotonic()
    try:
        with exclusive(store, MEDIA):
            assert 1.0 <= time.monotonic() - started < 10
    except StoreConflict as error:  # it was renewed in the very moment
        assert "see who writes it" in error.message  # noqa: PT017
    finally:
        ended.set()
        renewing.join()


def test_a_holder_that_hangs_stops_renewing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "MOST_WAIT_S", 0.5)
    with exclusive(store, MEDIA, term_s=0.3):
        time.sleep(1.0)
        last = store.read(LEASE)
        time.sleep(0.5)
        assert store.read(LEASE) == last
