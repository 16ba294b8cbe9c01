"""Flow runs as tests need them: with the bundled models, and with what each task run came to."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID

from prefect.client.schemas.objects import State

from tasks.core.options import parse_options
from tasks.core.schema import Result
from tasks.records.results import read_result
from tasks.store import Store, open_store

BUNDLED = ("transcript.model=bundled", "detections.weights=bundled")


@dataclass
class Outcome:
    report: dict[str, Any]
    states: dict[str, Counter[str]]
    """State names of the task runs, by task name: {"detect_objects": {"Cached": 2}}."""
    result: Result | None

    def bodies(self) -> Counter[str]:
        """How often each stage's body ran."""
        return Counter({name: n for name, states in self.states.items() if (n := states["Completed"])})


class Runs:
    def __init__(self, root: str) -> None:
        self.root = root
        self.store: Store = open_store(root)

    def analyze(self, source: object, *assignments: str, models: Iterable[str] = BUNDLED) -> Outcome:
        """Runs the flow in this process and reads its task runs from the API."""
        from flows.analyze_media import analyze_media

        options = parse_options([*models, *assignments])
        with submissions() as submitted:
            state: Any = analyze_media(source=str(source), store=self.root, options=options, return_state=True)
        report = state.result(raise_on_failure=False, _sync=True)
        if isinstance(report, BaseException):
            raise report
        states = task_states(state.state_details.flow_run_id, submitted)
        return Outcome(report, states, self.result(report["media_id"]))

    def result(self, media_id: str) -> Result | None:
        found = read_result(self.store, media_id)
        return found[0] if found else None

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Every artifact's manifest, by its path."""
        return manifests(Path(self.root))


def local_cluster_environment() -> dict[str, str]:
    """What lets another process submit to the local cluster of this one: its address and its certificate."""
    from flows.runtime.local_cluster import local_scheduler, local_security

    address = local_scheduler()
    security, prefix = local_security(address), "DASK_DISTRIBUTED__COMM__TLS__"
    client = {f"{prefix}CLIENT__CERT": security.tls_client_cert, f"{prefix}CLIENT__KEY": security.tls_client_key}
    return {"REELFLOW_DASK_ADDRESS": address, f"{prefix}CA_FILE": security.tls_ca_file, **client}


def manifests(store: Path) -> dict[str, dict[str, Any]]:
    """Every artifact's manifest in a folder store, by its path."""
    return {str(p.relative_to(store)): json.loads(p.read_text()) for p in store.glob("media/*/*/*/artifact.json")}


@contextmanager
def submissions() -> Iterator[set[UUID]]:
    """The ids of the task runs that flows of this process submit, or run themselves, meanwhile."""
    from flows import analyze_media
    from flows.runtime.dask_runner import DaskClusterTaskRunner

    submitted: set[UUID] = set()
    place = DaskClusterTaskRunner.place

    def noted(runner: Any, task: Any, parameters: Any, task_run_id: UUID, *others: Any) -> Any:
        submitted.add(task_run_id)
        return place(runner, task, parameters, task_run_id, *others)

    near = analyze_media.near

    def noted_here(task: Any, *arguments: Any) -> Any:
        done = near(task, *arguments)
        if isinstance(done, State):
            submitted.add(cast(UUID, done.state_details.task_run_id))
        return done

    with patch.object(DaskClusterTaskRunner, "place", noted), patch.object(analyze_media, "near", noted_here):
        yield submitted


def task_states(
    flow_run_id: Any, submitted: Set[UUID] | None = None, timeout_s: float = 20.0
) -> dict[str, Counter[str]]:
    """Final state names by task; waits until the server has heard of the end of every task run.

    Task runs reach the server as events, after the flow run's own end at times, and it writes them once a second: it
    cannot say which are to come, so name those that were `submitted`; else it is given time.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from flows.runtime import dask_runner

    if submitted is None:
        time.sleep(dask_runner.RECORDED_S)
    deadline = time.monotonic() + timeout_s
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
            open_runs = [run.name for run in found if run.state is None or not run.state.is_final()]
            unheard = (submitted or set()) - {run.id for run in found}
            if not open_runs and not unheard:
                break
            assert time.monotonic() < deadline, f"task runs never ended: {open_runs}, or never came: {unheard}"
            time.sleep(0.2)
    states: dict[str, Counter[str]] = {}
    for run in found:
        states.setdefault(run.task_key.split("-")[0], Counter())[run.state_name or ""] += 1
    return states


def comparable(result: Result) -> dict[str, Any]:
    """A result without what differs between two runs of the same: times taken, cost, and the store's root."""
    text = result.model_dump_json(by_alias=True, exclude={"timing", "cost", "created"})
    root = result.artifacts["report"].split("/media/")[0]
    return dict(json.loads(text.replace(root, "STORE")))
