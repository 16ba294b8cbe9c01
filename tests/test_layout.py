"""The arrows: which way imports point, and what must not be loaded for the flow to start fast."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.source_tree import FIRST_PARTY, ROOT, imported, module_name, roots, sources

ORCHESTRATION = {"prefect", "prefect_dask", "prefect_aws", "dask", "distributed"}
HEAVY = {"torch", "whisper", "ultralytics", "librosa", "openvino"}
CIRCLES = {
    ("flows.analyze_media", "flows.backfill.batch"): "a run of many sources begins runs of one each",
    (
        "tasks.stages.stage",
        "tasks.stages.canary",
    ): "a stage that fails is tried on a good file, by the stages themselves",
}
"""Imports within functions that close a circle, and why; there are no others."""
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


def test_imports_go_in_no_circle() -> None:
    """But between a package and its own modules, and as CIRCLES says."""
    modules = {module_name(path): path for top in ("deployments", "flows", "tasks") for path in sources(top)}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        known = (_module_of(each, modules) for each in imported(path))
        graph[name] = {to for to in known if to and to != name and not name.startswith(f"{to}.")}
    for importer, to in CIRCLES:
        assert to in graph[importer], f"{importer} does not import {to} any more: it is no circle"
        graph[importer].discard(to)
    TopologicalSorter(graph).prepare()  # names the circle


def _module_of(name: str, modules: Mapping[str, Path]) -> str | None:
    """The module that a dotted name is of, or is in."""
    parts = name.split(".")
    return next((known for n in range(len(parts), 0, -1) if (known := ".".join(parts[:n])) in modules), None)


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
