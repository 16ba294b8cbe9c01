"""Leases: one holder at a time, in threads and processes, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.records import lease
from tasks.records.lease import Lease, exclusive
from tasks.store import Store, open_store

MEDIA = "0" * 32
PATH = f"media/{MEDIA}/lease.json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def _holder(store: Store) -> Lease:
    found = store.read(PATH)
    assert found is not None
    return Lease.model_validate_json(found[0])


def test_it_is_given_back(store: Store) -> None:
    with exclusive(store, MEDIA):
        assert _holder(store).pid == os.getpid()
    assert store.read(PATH) is None


def test_it_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(KeyError), exclusive(store, MEDIA):
        raise KeyError
    assert store.read(PATH) is None


def test_one_at_a_time(store: Store) -> None:
    inside, most = 0, 0
    told: list[Lease] = []

    def work(_: int) -> None:
        nonlocal inside, most
        with exclusive(store, MEDIA, waiting=told.append):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert most == 1
    assert told
    assert all(holder.pid == os.getpid() for holder in told)


def test_it_lasts_as_long_as_the_work(store: Store) -> None:
    """Three terms long, while someone else waits."""
    taken = threading.Event()

    def wait() -> None:
        with exclusive(store, MEDIA, term_s=0.3):
            taken.set()

    with exclusive(store, MEDIA, term_s=0.3):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(1.2)
        assert not taken.is_set()
        assert _holder(store).renewals >= 2
    waiter.join(10)
    assert taken.is_set()


def _hold_for_ever(root: str, held: multiprocessing.synchronize.Event) -> None:
    with exclusive(open_store(root), MEDIA):
        held.set()
        time.sleep(600)


def test_a_killed_process_of_this_host_loses_it_at_once(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=_hold_for_ever, args=(store.root, held))
    process.start()
    assert held.wait(60)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    started = time.monotonic()
    with exclusive(store, MEDIA):
        assert time.monotonic() - started < 5 < lease.TERM_S


def _foreign(term_s: float) -> bytes:
    other = Lease(owner="other", host="elsewhere", pid=1, process_start="1", term_s=term_s)
    return other.model_dump_json().encode()


def test_a_holder_elsewhere_loses_it_after_its_term(store: Store) -> None:
    store.write(PATH, _foreign(0.5))
    started = time.monotonic()
    with exclusive(store, MEDIA):
        assert 0.5 <= time.monotonic() - started < 5


def test_who_lost_it_does_not_take_it_from_the_next(store: Store) -> None:
    with exclusive(store, MEDIA, term_s=0.3):
        store.write(PATH, _foreign(60))
        time.sleep(0.5)
    assert _holder(store).owner == "other"
