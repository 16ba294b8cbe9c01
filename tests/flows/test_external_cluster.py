"""A separate scheduler and workers, started outside the project: GPU tasks run on the GPU worker only."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.runtime.dask_security import tls_environment, write_certificate
from tasks.core.models import bundled
from tests.flows.runs import BUNDLED, manifests
from tests.prefect_home import DATABASE, environment_of, new_prefect_home

GPU_STAGES = {"transcript", "detections", "language"}


class Cluster:
    """`dask scheduler` and `dask worker` processes with a working directory outside the project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        write_certificate(folder / "tls")
        self.certificate = tls_environment(folder / "tls")
        log = folder / "scheduler.log"
        self._start(log, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = _wait_for(log, r"Scheduler at:\s+(tls://\S+)")

    def worker(self, name: str, resources: str, *more: str) -> int:
        """Starts a worker and returns its process id."""
        log = self._folder / f"{name}.log"
        flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", "tasks.preload", *more]
        process = self._start(log, "worker", self.address, "--name", name, "--resources", resources, *flags)
        _wait_for(log, r"Registered to:\s+(\S+)")
        return process.pid

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _start(self, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DASK_"))}
        environment |= {"OMP_NUM_THREADS": "1", **self.certificate}
        command = [str(Path(sys.executable).with_name("dask")), *arguments]
        process = subprocess.Popen(
            command, cwd=self._folder, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=environment
        )
        self._processes.append(process)
        return process


def _wait_for(log: Path, pattern: str, timeout_s: float = 180.0) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text() if log.exists() else ""):
            return found.group(1)
        time.sleep(0.1)
    raise AssertionError(f"{log} never said {pattern}:\n{log.read_text()}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home, for this file."""
    return new_prefect_home(tmp_path_factory)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.stop()


def _start(
    cluster: Cluster, store: Path, home: Path, *options: str, log: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """`analyze` of the sample, with a Prefect API of its own; what it says goes to `log`."""
    command = [sys.executable, "-m", "flows", "analyze", str(bundled.SAMPLE_CLIP), "--store", str(store), "--json"]
    command += [word for option in (*BUNDLED, *bundled.SAMPLE_OPTIONS, *options) for word in ("--set", option)]
    full = environment_of(home) | cluster.certificate
    full |= {"REELFLOW_DASK_ADDRESS": cluster.address, "REELFLOW_WORKER_WAIT_S": "3"}
    full |= environment
    said = log.open("w") if log else subprocess.PIPE
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=full)


def _report(started: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    with started:
        printed, said = started.communicate(timeout=240)
    assert printed, said
    return started.returncode, json.loads(printed)


def _analyze(cluster: Cluster, store: Path, home: Path, *options: str) -> tuple[int, dict[str, Any], float]:
    status, report = _report(_start(cluster, store, home, *options))
    return status, report, float(report["seconds"])


def _open_task_runs(home: Path) -> list[tuple[str, str]]:
    """Task runs that the server has not heard the end of."""
    ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    with closing(sqlite3.connect(home / DATABASE)) as database:
        rows = database.execute("SELECT name, state_type FROM task_run").fetchall()
    assert rows
    return [(name, state) for name, state in rows if state not in ended]


def test_gpu_tasks_run_on_the_gpu_worker_only(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    cpu, gpu = cluster.worker("cpu", "CPU=1"), cluster.worker("gpu", "GPU=1")
    status, report, _ = _analyze(cluster, tmp_path / "store", home)
    assert (status, report["status"]) == (0, "done"), json.dumps(report)
    made = manifests(tmp_path / "store")
    assert GPU_STAGES & {path.split("/")[2] for path in made} >= {"transcript", "detections"}
    for path, manifest in made.items():
        expected = gpu if path.split("/")[2] in GPU_STAGES else cpu
        assert manifest["made_by"]["pid"] == expected, path


def test_without_a_gpu_worker_the_run_ends_and_says_what_to_start(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    cluster.worker("cpu", "CPU=1")
    status, report, seconds = _analyze(cluster, tmp_path / "store", home)
    assert (status, report["status"]) == (1, "failed")
    error = report["error"]
    assert isinstance(error, dict)
    assert error["code"] == "no_worker"
    assert "dask worker" in error["message"]
    assert "--resources GPU=1" in error["message"]
    waited = report["seconds"]
    assert isinstance(waited, float)
    assert waited < 30
    assert seconds < 90


@pytest.mark.slow
def test_every_command_can_use_the_same_workers(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    """Each starts a Prefect API of its own, and the workers stay: they follow, and each API hears of all its runs."""
    cluster.worker("cpu", "CPU=1")
    cluster.worker("gpu", "GPU=1")
    for number in range(2):
        status, report, _ = _analyze(cluster, tmp_path / str(number), home)
        assert (status, report["status"]) == (0, "done"), json.dumps(report)
        assert _open_task_runs(home) == []


@pytest.mark.slow
def test_two_commands_at_the_same_time_can_use_the_same_workers(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    cluster.worker("both", "CPU=1 GPU=1")
    others = new_home = home.parent / "other"
    new_home.mkdir()
    (new_home / DATABASE).write_bytes((home / DATABASE).read_bytes())
    started = [_start(cluster, tmp_path / folder.name, folder) for folder in (home, others)]
    for command in started:
        status, report = _report(command)
        assert (status, report["status"]) == (0, "done"), json.dumps(report)
    assert _open_task_runs(home) == []
    assert _open_task_runs(others) == []


SMALL_BATCHES = ("frames.batch_size=2", "frames.fps=4", "transcript.batch_size=1", "transcript.window_s=8")


@pytest.mark.slow
@pytest.mark.parametrize("comes_again", [False, True])
def test_the_last_gpu_worker_is_killed(comes_again: bool, cluster: Cluster, tmp_path: Path, home: Path) -> None:
    """It is said within 10 s; the run goes on with another one, or ends after the time that it was given."""
    cluster.worker("cpu", "CPU=1")
    gpu = cluster.worker("gpu", "GPU=1")
    store, log, patience_s = tmp_path / "store", tmp_path / "said", 120 if comes_again else 8
    run = _start(cluster, store, home, *SMALL_BATCHES, log=log, REELFLOW_WORKER_LOST_S=str(patience_s))
    _until(lambda: any("/detections/" in path for path in manifests(store)), 120, "detections")
    os.kill(gpu, signal.SIGKILL)
    killed = time.monotonic()
    _until(lambda: "No Dask worker at" in log.read_text(), 10, "a message")
    assert run.poll() is None
    assert "resource GPU" in log.read_text()
    assert "--resources GPU=1" in log.read_text()
    if comes_again:
        cluster.worker("gpu again", "GPU=1")
    status, report = _report(run)
    if comes_again:
        assert (status, report["status"]) == (0, "done"), json.dumps(report)
        assert log.read_text().count("No Dask worker at") == 1
    else:
        assert (status, report["status"]) == (1, "failed"), report
        assert report["error"]["code"] == "no_worker"
        assert f"in {patience_s} s" in report["error"]["message"]
        assert patience_s - 1 < time.monotonic() - killed < patience_s + 20
    assert _open_task_runs(home) == []


def _until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def test_workers_that_cannot_reach_the_commands_own_api_are_refused(
    cluster: Cluster, tmp_path: Path, home: Path
) -> None:
    """The worker says that it is on another host (TEST-NET-1); its tasks would find nothing at 127.0.0.1."""
    cluster.worker(
        "away", "CPU=1 GPU=1", "--listen-address", "tls://127.0.0.1:0", "--contact-address", "tls://192.0.2.7:4040"
    )
    status, report, seconds = _analyze(cluster, tmp_path / "store", home)
    assert (status, report["status"]) == (1, "failed")
    assert "192.0.2.7" in report["error"]["message"]
    assert "PREFECT_API_URL" in report["error"]["message"]
    assert seconds < 20
