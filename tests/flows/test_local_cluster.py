"""The local cluster: workers forked from one process that has imported what they need."""

from __future__ import annotations

import itertools
import os
import sys
import time
from dataclasses import replace

import pytest
from distributed import Client
from prefect import flow, task
from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.runtime import dask_runner, fork_server, local_cluster
from flows.task_runner import ClusterTaskRunner
from tasks.workers import worker
from tasks.workers.api_certificates import FILE


def _is_imported(name: str) -> bool:
    return name in sys.modules


def _environment(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_are_forked_from_one_process_with_threads_for_each(engine: None) -> None:
    address = local_cluster.local_scheduler()
    with Client(address, security=local_cluster.local_security(address), set_as_default=False) as client:
        parents = set(client.run(os.getppid).values())
        assert len(parents) == 1
        assert os.getpid() not in parents
        assert all(client.run(_is_imported, "torch").values())
        assert all(client.run(_environment, "OMP_NUM_THREADS").values())
        assert set(client.run(_environment, "PREFECT_API_URL").values()) == {os.environ["PREFECT_API_URL"]}


def test_workers_are_not_forked_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has asked for GPUs cannot be forked, and the libraries that are imported ask."""
    monkeypatch.setattr(local_cluster, "visible_gpus", lambda: ["0"])
    started: list[object] = []
    monkeypatch.setattr(fork_server, "start", lambda *arguments: started.append(arguments))
    local_cluster.begin_imports()
    assert not started
    monkeypatch.setattr(local_cluster, "visible_gpus", list)
    local_cluster.begin_imports()
    assert len(started) == 1


@pytest.mark.parametrize(
    ("cores", "gib", "gpus", "workers"),
    [(1, 2, 0, 1), (64, 2, 0, 1), (64, 6, 0, 4), (64, 256, 0, 8), (2, 256, 0, 2), (8, 256, 2, 6), (1, 1, 1, 1)],
)
def test_as_many_workers_as_cores_and_memory_allow(
    cores: int, gib: int, gpus: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REELFLOW_WORKERS", raising=False)
    monkeypatch.setattr(local_cluster, "available_cores", lambda: cores)
    monkeypatch.setattr(local_cluster, "available_memory", lambda: gib * 2**30)
    monkeypatch.setattr(local_cluster, "visible_gpus", lambda: list(map(str, range(gpus))))
    assert local_cluster.planned_workers() == workers
    assert len(local_cluster._workers()) == workers + gpus
    threads = local_cluster._before_import()["OMP_NUM_THREADS"]
    assert threads == str(max(1, cores // (workers + gpus)))
    monkeypatch.setenv("REELFLOW_WORKERS", "3")
    assert local_cluster.planned_workers() == 3


@task
def _begin(number: int) -> tuple[float, int]:
    began = time.time()
    time.sleep(0.05)
    return began, number


@flow(task_runner=ClusterTaskRunner())
def _in_a_row() -> list[int]:
    """Numbers in the order in which their tasks began."""
    submitted = [_begin.submit(number) for number in range(24)]
    return [number for _, number in sorted(future.result() for future in submitted)]


def test_tasks_begin_in_the_order_of_their_submission(engine: None) -> None:
    """Nearly: a worker that has nothing left takes what waits at another one."""
    begun = _in_a_row()
    turned = sum(a > b for a, b in itertools.combinations(begun, 2))
    assert turned < 24 * 23 / 16, f"{begun}: {turned} of 276 pairs are turned"


def test_settings_travel_as_they_are_and_are_the_same_by_their_values(engine: None) -> None:
    first = dask_runner._settings_context()
    assert first
    again = replace(first, pickled=b"other bytes for the same")
    assert worker._session(first, 1) is worker._session(again, 1)
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 77}):
        other = dask_runner._settings_context()
    assert other
    assert other.digest != first.digest
    assert worker._session(other, 1).run(PREFECT_CLIENT_MAX_RETRIES.value) == 77
    assert worker._session(first, 1).run(PREFECT_CLIENT_MAX_RETRIES.value) != 77


def test_clients_of_an_api_without_tls_read_one_certificate_of_their_own_host(engine: None) -> None:
    assert PREFECT_API_SSL_CERT_FILE.value() == str(FILE)
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: f"/other/host/{FILE.name}"}):
        sent = dask_runner._settings_context()
    assert sent
    assert b"/other/host/" in sent.pickled
    assert worker._session(sent, 1).run(PREFECT_API_SSL_CERT_FILE.value) == str(FILE)
