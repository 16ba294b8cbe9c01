"""What became of each request: its flow run and task runs on the server, its result in the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from benchmarks._clip import SECONDS, fault
from benchmarks._latency import DONE, Request, Span
from benchmarks._targets import Sent
from tasks.records.results import read_result
from tasks.store import Store

SETTLE_S = 30.0
"""Task runs reach the server as events, some of them after their flow run's end."""

LAST_STAGE = "publish"
RUNS_AT_ONCE = 12
"""Flow runs of one question; the server gives at most 200 task runs, and each has eleven."""


async def outcomes(sent: Sequence[Sent], store: Store) -> list[Request]:
    """What became of each request: its flow run and task runs on the server, its result in the store."""
    ids = [request.ticket.run_id for request in sent if request.ticket and request.ticket.run_id]
    flow_runs, task_runs = await _records(ids)
    taken = await _taken(ids)
    return [await asyncio.to_thread(_outcome, request, store, flow_runs, task_runs, taken) for request in sent]


def _outcome(
    sent: Sent,
    store: Store,
    flow_runs: dict[UUID, Any],
    task_runs: dict[UUID, list[Any]],
    taken: dict[UUID, float | None],
) -> Request:
    run_id = sent.ticket.run_id if sent.ticket else None
    run = flow_runs.get(run_id) if run_id else None
    known = {"number": sent.number, "arrived": sent.arrived, "accepted": sent.accepted}
    if sent.refusal:
        return Request(status="refused", reason=sent.refusal, **known)
    if run is None or run.state is None or sent.ticket is None or not sent.ticket.ended.is_set():
        return Request(status="unfinished", reason="did not end in time", **known)
    known |= {"taken": taken.get(run.id), "started": _unix(run.start_time), "ended": _unix(run.end_time)}
    is_named = run.state.is_completed() or run.state.name == "Quarantined"
    status = run.state.name.lower() if is_named else run.state.type.value.lower()
    if status != DONE:
        return Request(status=status, reason=" ".join((run.state.message or "").split())[:200], **known)
    found = read_result(store, sent.media_id)
    wrong = fault(found[0]) if found else "there is no result in the store"
    if found is None or wrong:
        return Request(status="wrong", reason=wrong, **known)
    result = found[0]
    spans = [
        span.model_copy(update={"cpu_s": timing.cpu_s, "queue_s": timing.queue_s})
        if (timing := result.timing.get(span.stage))
        else span
        for span in _spans(task_runs.get(run.id, []))
    ]
    return Request(status=DONE, stages=spans, media_s=SECONDS, cost_usd=result.cost["total"], **known)


def _spans(task_runs: Iterable[Any]) -> list[Span]:
    """Stages by the beginning of their task runs' names (`frames: clip.mp4 from 0 s`)."""
    times: dict[str, list[float]] = {}
    for run in task_runs:
        ends = [moment.timestamp() for moment in (run.start_time, run.end_time) if moment]
        times.setdefault(run.name.partition(":")[0], []).extend(ends)
    return [Span(stage=stage, start=min(found), end=max(found)) for stage, found in times.items()]


async def _records(ids: Sequence[UUID]) -> tuple[dict[UUID, Any], dict[UUID, list[Any]]]:
    """Flow runs by id, and their task runs once the server has heard of the end of each."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    flow_runs: dict[UUID, Any] = {}
    task_runs: dict[UUID, list[Any]] = {}
    deadline = time.monotonic() + SETTLE_S
    async with get_client() as client:
        for first in range(0, len(ids), RUNS_AT_ONCE):
            wanted = FlowRunFilter.model_validate({"id": {"any_": ids[first : first + RUNS_AT_ONCE]}})
            runs = {run.id: run for run in await client.read_flow_runs(flow_run_filter=wanted)}
            done = {key for key, run in runs.items() if run.state_name == DONE.capitalize()}
            while True:
                found = await client.read_task_runs(flow_run_filter=wanted, limit=200)
                ended = [run for run in found if run.end_time]
                if done <= {run.flow_run_id for run in ended if run.name.startswith(LAST_STAGE)}:
                    break
                assert time.monotonic() < deadline, "the server never heard of the end of some task runs"
                await asyncio.sleep(0.5)
            flow_runs |= runs
            for run in ended:
                task_runs.setdefault(UUID(str(run.flow_run_id)), []).append(run)
    return flow_runs, task_runs


async def _taken(ids: Sequence[UUID]) -> dict[UUID, float | None]:
    """When each flow run left the queue: its first Pending state."""
    from prefect.client.orchestration import get_client

    found: dict[UUID, float | None] = {}
    async with get_client() as client:
        for run_id in ids:
            states = await client.read_flow_run_states(run_id)
            found[run_id] = next((_unix(state.timestamp) for state in states if state.is_pending()), None)
    return found


def _unix(moment: Any) -> float | None:
    return float(moment.timestamp()) if moment else None
