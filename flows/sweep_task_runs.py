"""Task runs that nobody will ever finish, because their flow run is over, become Crashed.

A flow that is killed leaves its task runs Running: the heartbeat automation crashes the flow run only. A flow run that
is deleted takes its task runs with it, by a rule of the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.states import Crashed
from pydantic import BaseModel, Field

PAGE = 100
"""Task runs per request."""

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


class Sweep(BaseModel):
    """What one sweep did."""

    crashed: int
    more: bool
    """The bound was reached before the end."""


@flow(name="sweep-task-runs", flow_run_name="sweep", retries=0)
def sweep_task_runs(
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0,
    limit: Annotated[int, Field(ge=1, le=100_000)] = 5_000,
) -> Sweep:
    """Marks task runs as Crashed that are left Pending or Running although their flow run has ended.

    Args:
        grace_s: How long the flow run must have been over, in seconds: last events of its tasks may be on their way.
        limit: Most task runs marked by one sweep; the next one goes on.
    """
    ended = datetime.now(UTC) - timedelta(seconds=grace_s)
    swept: list[TaskRun] = []
    with get_client(sync_client=True) as client:
        while len(swept) < limit:
            page = _orphans(client, ended, min(PAGE, limit - len(swept)))
            for orphan in page:
                client.set_task_run_state(orphan.id, Crashed(message="Its flow run had ended without it"), force=True)
            if not page or page[0].id in {run.id for run in swept[-PAGE:]}:
                break
            swept += page
        more = len(swept) >= limit and bool(_orphans(client, ended, 1))
    if swept:
        get_run_logger().warning("%d task runs had outlived their flow run; they are Crashed now", len(swept))
        rows = [{"task run": run.name, "was": run.state_name, "flow run": str(run.flow_run_id)} for run in swept[:PAGE]]
        create_table_artifact(rows, key="swept-task-runs", description=f"{len(swept)} task runs marked Crashed")
    return Sweep(crashed=len(swept), more=more)


def _orphans(client: SyncPrefectClient, ended: datetime, limit: int) -> list[TaskRun]:
    """Unfinished task runs of flow runs that ended before. Those marked leave the answer: every page is the first."""
    return client.read_task_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
            end_time=FlowRunFilterEndTime(before_=ended),
        ),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))),
        sort=TaskRunSort.ID_DESC,
        limit=limit,
    )
