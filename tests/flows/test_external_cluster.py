"""A separate scheduler and workers, started outside the project: GPU tasks run on the GPU worker only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.models import bundled
from tests.flows.runs import BUNDLED, manifests
from tests.prefect_home import new_prefect_home

GPU_STAGES = {"transcript", "detections", "language"}


class Cluster:
    """`dask scheduler` and `dask worker` processes with a working directory outside the project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        log = folder / "scheduler.log"
        self._start(log, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = _wait_for(log, r"Scheduler at:\s+(tcp://\S+)")

    def worker(self, name: str, resources: str) -> int:
        """Starts a worker and returns its process id."""
        log = self._folder / f"{name}.log"
        flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", "tasks.preload"]
        process = self._start(log, "worker", self.address, "--name", name, "--resources", resources, *flags)
        _wait_for(log, r"Registered to:\s+(\S+)")
        return process.pid

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _start(self, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DASK_"))}
        environment["OMP_NUM_THREADS"] = "1"
        command = [str(Path(sys.executable).with_name("dask")), *arguments]
        process = subprocess.Popen(
            command, cwd=self._folder, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=environment
        )
        self._processes.append(process)
        return process


def _wait_for(log: Path, pattern: str, timeout_s: float = 60.0) -> str:
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


def _analyze(cluster: Cluster, store: Path, home: Path) -> tuple[int, dict[str, object], float]:
    command = [sys.executable, "-m", "flows", "analyze", str(bundled.SAMPLE_CLIP), "--store", str(store), "--json"]
    command += [word for option in (*BUNDLED, *bundled.SAMPLE_OPTIONS) for word in ("--set", option)]
    environment = {
        **os.environ,
        "REELFLOW_DASK_ADDRESS": cluster.address,
        "PREFECT_HOME": str(home),
        "REELFLOW_WORKER_WAIT_S": "3",
    }
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    return done.returncode, report, float(report["seconds"])


def test_gpu_tasks_run_on_the_gpu_worker_only(cluster: Cluster, tmp_path: Path, home: Path) -> None:
    cpu, gpu = cluster.worker("cpu", "CPU=1"), cluster.worker("gpu", "GPU=1")
    status, report, _ = _analyze(cluster, tmp_path / "store", home)
    assert (status, report["status"]) == (0, "done"), report
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
    assert waited < 10
    assert seconds < 60
