"""Workers and flows killed with SIGKILL in the middle of the work: the same result, and no run left Running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.models import bundled
from tests.flows.runs import BUNDLED, Runs, comparable, manifests

SMALL_BATCHES = (
    "frames.batch_size=4",
    "frames.fps=4",
    "transcript.batch_size=1",
    "transcript.window_s=8",
    *bundled.SAMPLE_OPTIONS,
)


def _kill_worker_running(task: str, timeout_s: float = 60.0) -> Callable[[], list[str]]:
    """Kills, from a thread, the first worker process of the local cluster that is seen running the task."""
    from distributed import Client

    from flows.runtime.local_cluster import local_scheduler, local_security

    killed: list[str] = []

    def watch() -> None:
        address = local_scheduler()
        with Client(address, security=local_security(address), set_as_default=False) as client:
            pids: dict[str, int] = client.run(os.getpid)
            deadline = time.monotonic() + timeout_s
            while not killed and time.monotonic() < deadline:
                for worker, keys in client.processing().items():
                    if worker in pids and any(str(key).startswith(task) for key in keys):
                        os.kill(pids[worker], signal.SIGKILL)
                        killed.append(worker)
                        break
                time.sleep(0.005)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def join() -> list[str]:
        thread.join(timeout_s)
        return killed

    return join


@pytest.fixture(scope="module")
def undisturbed(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    outcome = Runs(str(tmp_path_factory.mktemp("undisturbed"))).analyze(bundled.SAMPLE_CLIP, *SMALL_BATCHES)
    assert outcome.result is not None
    return comparable(outcome.result)


@pytest.mark.parametrize("task", ["transcribe", "detect_objects"])
def test_a_killed_worker_changes_nothing(task: str, undisturbed: Any, runs: Runs) -> None:
    killed = _kill_worker_running(task)
    outcome = runs.analyze(bundled.SAMPLE_CLIP, *SMALL_BATCHES)
    assert killed(), f"no worker was seen running {task}"
    assert outcome.report["status"] == "done"
    assert outcome.result is not None
    assert comparable(outcome.result) == undisturbed
    assert all(name in {"Completed", "Cached", "Crashed"} for states in outcome.states.values() for name in states)


def test_a_task_that_kills_every_worker_fails_with_a_message(engine: None) -> None:
    from prefect import flow

    from flows.task_runner import ClusterTaskRunner
    from tasks.core.errors import WorkerLost
    from tests.flows.deadly import die, echo

    @flow(task_runner=ClusterTaskRunner())
    def deadly() -> Any:
        future = die.submit()
        after = echo.submit(future)
        after.wait()
        assert future.state.is_crashed()
        assert after.state.is_crashed()
        with pytest.raises(WorkerLost):
            future.result()
        return after.result()

    state: Any = deadly(return_state=True)
    with pytest.raises(WorkerLost, match="was lost"):
        state.result(_sync=True)
    from tests.flows.runs import task_states

    assert task_states(state.state_details.flow_run_id)["die"].keys() == {"Crashed"}


def test_a_killed_flow_is_finished_by_a_rerun(engine: None, tmp_path: Path, undisturbed: Any) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "flows", "analyze", str(bundled.SAMPLE_CLIP), "--store", str(store), "--json"]
    command += [word for option in (*BUNDLED, *SMALL_BATCHES) for word in ("--set", option)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not any("/detections/" in path for path in manifests(store)):
            assert first.poll() is None, "the flow ended before it could be killed"
            assert time.monotonic() < deadline, "the flow never got to detections"
            time.sleep(0.02)
    finally:
        first.kill()
        first.wait()
    time.sleep(2)
    finished = manifests(store)
    assert not list(store.glob("media/*/result.json"))
    runs = Runs(str(store))
    again = runs.analyze(bundled.SAMPLE_CLIP, *SMALL_BATCHES)
    assert again.report["status"] == "done"
    assert again.result is not None
    assert comparable(again.result) == undisturbed
    after = runs.manifests()
    assert {path: after[path]["finished"] for path in finished} == {p: m["finished"] for p, m in finished.items()}


def test_a_task_run_that_the_server_has_not_written_yet_is_crashed_all_the_same(engine: None) -> None:
    from prefect import flow, task
    from prefect.client.orchestration import get_client

    from flows.runtime import dask_runner

    @task
    def slow() -> None:
        time.sleep(4)

    @flow
    def loses() -> str | None:
        run_id = slow.submit().task_run_id
        time.sleep(0.1)
        dask_runner._mark_crashed(run_id, "lost")
        with get_client(sync_client=True) as client:
            return client.read_task_run(run_id).state_name

    assert loses() == "Crashed"
