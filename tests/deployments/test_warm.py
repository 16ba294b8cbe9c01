"""Warm, cold and burst-ready as settings: models before the first task, and workers that come with the load and go."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tasks.core.errors import ModelNotFound
from tasks.core.options import UnknownOption
from tasks.preload import load_models
from tests.source_tree import ROOT

SCALING = """
import json, os, time
from distributed import Client
from flows.runtime import local_cluster
local_cluster.IDLE_S = 3
address = local_cluster.local_scheduler()
def count(): return len(client.scheduler_info(n_workers=-1)["workers"])
def until(wanted):
    deadline = time.monotonic() + 60
    while count() != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return count()
with Client(address, security=local_cluster.local_security(address), set_as_default=False) as client:
    seen = [until(1)]
    busy = [client.submit(time.sleep, 8 + i / 10, resources={"CPU": 1}, pure=False) for i in range(6)]
    seen.append(until(2))
    client.cancel(busy)
    seen.append(until(1))
print(json.dumps(seen))
local_cluster.stop_local_cluster()
"""


def _python(program: str, **environment: str) -> str:
    import os

    full = {k: v for k, v in os.environ.items() if not k.startswith(("REELFLOW_", "PREFECT_"))} | environment
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=full, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_first_task_finds_the_models_that_the_preload_has_loaded() -> None:
    program = """
from tasks.preload import load_models
from tasks.core.models import whisper, yolo
load_models("transcript.model=bundled detections.weights=bundled detections.image_size=320")
before = len(whisper._loaded), len(yolo._models)
from tasks.stages import speech, vision
from tasks.core.options import parse_options
from tasks.records.lookup import find_models
options = parse_options(["transcript.model=bundled", "detections.weights=bundled"])
models, _ = find_models(options)
speech.load_model(models["transcript"], options.transcript)
vision.load_model(models["detections"], options.detections)
print(before == (1, 1) == (len(whisper._loaded), len(yolo._models)))
"""
    assert _python(program) == "True"


def test_a_model_that_is_not_here_or_no_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_DOWNLOAD", "false")
    with pytest.raises(UnknownOption, match="did you mean"):
        load_models("transcript.modell=base.en")
    with pytest.raises(ModelNotFound, match="yolo99z"):
        load_models("detections.weights=yolo99z.pt")


@pytest.mark.slow
def test_workers_come_with_the_load_and_go_without_it() -> None:
    assert json.loads(_python(SCALING, REELFLOW_WORKERS="2", REELFLOW_WORKERS_MIN="1")) == [1, 2, 1]
