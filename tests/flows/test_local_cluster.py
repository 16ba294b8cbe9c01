"""The local cluster: workers forked from one process that has imported what they need."""

from __future__ import annotations

import os
import sys

import pytest

from flows import fork_server, local_cluster


def _is_imported(name: str) -> bool:
    return name in sys.modules


def _environment(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_are_forked_from_one_process_with_threads_for_each(engine: None) -> None:
    from distributed import Client

    with Client(local_cluster.local_scheduler(), set_as_default=False) as client:
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
