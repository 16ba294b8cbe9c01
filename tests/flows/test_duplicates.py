"""The same media analysed by several processes at once: one result, every stage once, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.core.models import bundled
from tasks.store import open_store
from tests.flows.runs import local_cluster_environment, manifests, task_states
from tests.flows.test_command_line import BUNDLED_SETS, ROOT

PROCESSES = 8


class Crowd:
    """`python -m flows analyze` processes that share a Prefect API and a Dask cluster."""

    def __init__(self, folder: Path) -> None:
        self.source, self.store = folder / "crowded.mp4", folder / "store"
        shutil.copy(bundled.SAMPLE_CLIP, self.source)
        self._environment = os.environ | local_cluster_environment()
        self._log = (folder / "stderr").open("wb")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows", "analyze", str(self.source), "--store", str(self.store), "--json"]
        return subprocess.Popen(
            [*command, *BUNDLED_SETS],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )

    def lease(self) -> dict[str, Any] | None:
        for path in self.store.glob("media/*/lease.json"):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return None


@pytest.fixture
def crowd(engine: None, tmp_path: Path) -> Crowd:
    return Crowd(tmp_path)


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    [line] = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def _flow_runs(name: str) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    with get_client(sync_client=True) as client:
        return list(client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name]))))


def test_eight_processes_give_one_result_and_run_each_stage_once(crowd: Crowd) -> None:
    reports = [_finish(process) for process in [crowd.start() for _ in range(PROCESSES)]]
    assert Counter(report["status"] for report in reports) == {"done": 1, "cached": PROCESSES - 1}
    assert len({report["result"] for report in reports}) == 1
    bodies: Counter[str] = Counter()
    for run in _flow_runs("analyze: crowded.mp4"):
        for task, states in task_states(run.id).items():
            bodies[task] += states["Completed"]
    made = Counter(path.split("/")[2] for path in manifests(crowd.store))
    assert bodies["probe_media"] == bodies["extract_audio"] == bodies["segment_speech"] == bodies["cut_clips"] == 1
    assert bodies["publish_result"] == bodies["detect_language"] == 1
    assert bodies["sample_frames"] == made["frames"]
    assert bodies["detect_objects"] == made["detections"]
    assert bodies["transcribe"] == made["transcript"]
    assert crowd.lease() is None


def test_a_waiting_process_goes_on_where_a_killed_one_stopped(crowd: Crowd) -> None:
    first = crowd.start()
    deadline = time.monotonic() + 120
    while len(manifests(crowd.store)) < 2:
        assert time.monotonic() < deadline
        assert first.poll() is None, "the first process ended before it could be killed"
        time.sleep(0.02)
    held = crowd.lease()
    assert held is not None
    assert held["pid"] == first.pid
    second = crowd.start()
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = manifests(crowd.store)
    assert _finish(second)["status"] == "done"
    after = manifests(crowd.store)
    assert {path: after[path] for path in finished} == finished
    assert crowd.lease() is None
    assert [path for path in open_store(str(crowd.store)).list("media") if path.endswith("/result.json")]
