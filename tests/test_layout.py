"""The arrows: which way imports point, and what must not be loaded for the flow to start fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import FIRST_PARTY, ROOT, imported, module_name, roots, sources

ORCHESTRATION = {"prefect", "prefect_dask", "prefect_aws", "dask", "distributed"}
HEAVY = {"torch", "whisper", "ultralytics", "librosa", "openvino"}
IMPORT_RATIO = 1.5
"""Longest import of the flow, in imports of prefect alone."""


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in sys.modules after a statement in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("path", sources("tasks/core"), ids=module_name)
def test_core_knows_neither_orchestration_nor_flows_nor_settings(path: Path) -> None:
    names = imported(path)
    assert not roots(names) & (ORCHESTRATION | (FIRST_PARTY - {"tasks"}))
    assert not [name for name in names if name.startswith("tasks.") and not name.startswith("tasks.core")]


@pytest.mark.parametrize("path", sources("tasks"), ids=module_name)
def test_tasks_do_not_know_flows(path: Path) -> None:
    assert not roots(imported(path)) & {"flows", "deployments", "tests", "benchmarks"}


@pytest.mark.parametrize("path", sources("flows"), ids=module_name)
def test_flows_do_not_know_deployments(path: Path) -> None:
    assert not roots(imported(path)) & {"deployments", "tests", "benchmarks"}


def test_importing_core_starts_neither_prefect_nor_torch() -> None:
    engines = ("tasks.core.models.", "tasks.core.segments.energy", "tasks.core.segments.silero")
    modules = [module_name(path) for path in sources("tasks/core")]
    light = [name for name in modules if not name.startswith(engines)]
    assert {"tasks.core.errors", "tasks.core.schema", "tasks.core.options", "tasks.core.segments"} <= set(light)
    assert not loaded_after(f"import {', '.join(light)}") & (ORCHESTRATION | HEAVY | {"flows"})


def test_importing_the_flow_loads_no_model_library() -> None:
    assert not loaded_after("import flows.analyze_media") & HEAVY


def test_the_flow_imports_nearly_as_fast_as_prefect() -> None:
    """In CPU time, the best of up to five alternating rounds: the machine is busy with other tests."""
    best = {"prefect": float("inf"), "flows.analyze_media": float("inf")}
    for attempt in range(5):
        for name in best:
            clock = f"import time; t = time.process_time(); import {name}; print(time.process_time() - t)"
            done = subprocess.run([sys.executable, "-c", clock], cwd=ROOT, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            best[name] = min(best[name], float(done.stdout))
        if attempt and best["flows.analyze_media"] <= IMPORT_RATIO * best["prefect"]:
            return
    pytest.fail(f"importing flows.analyze_media took more than {IMPORT_RATIO} times prefect's own import: {best}")
