"""What a task costs that does nothing: Reelflow's Dask runner against prefect-dask's own, on the same cluster.

One flow submits many empty tasks and waits for them; the same server, scheduler and two workers for both runners, which
take turns. CPU seconds are those of the flow's process (scheduler included), of the worker processes and of the server,
per task. All tasks must be Completed on the server before a figure is printed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, task

from benchmarks._cpu import processor_seconds
from benchmarks._results import Plot, Table, median, parser, publish
from flows.task_runner import ClusterTaskRunner

PARTS = ("flow", "workers", "server")


@task
def nothing(number: int) -> int:
    """Gives its argument back."""
    return number


def submit_all(count: int) -> int:
    """Body of both flows: the sum of what the tasks gave."""
    return sum(future.result() for future in [nothing.submit(number) for number in range(count)])


ours = flow(name="overhead-reelflow", task_runner=ClusterTaskRunner())(submit_all)


def main(argv: Sequence[str]) -> None:
    """Runs both flows in turn and prints CPU per task."""
    options = parser("task_overhead", __doc__)
    options.add_argument("--tasks", type=int, default=100, help="tasks of each flow run")
    options.add_argument("--repeat", type=int, default=3, help="flow runs of each runner; medians count")
    arguments = options.parse_args(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from prefect_dask import DaskTaskRunner

    from flows.runtime.local_cluster import local_scheduler, local_security
    from flows.runtime.run import engine

    rows = []
    with engine():
        address = local_scheduler()
        runner: Any = DaskTaskRunner(address=address, client_kwargs={"security": local_security(address)})
        stock: Any = flow(name="overhead-prefect-dask", task_runner=runner)
        for name, run in (("reelflow", ours), ("prefect-dask", stock(submit_all))):
            measure(run, 10)
            taken = [measure(run, arguments.tasks) for _ in range(arguments.repeat)]
            rows.append({"runner": name} | {key: median(one[key] for one in taken) for key in taken[0]})
    plot = Plot("runner", [f"{part}, CPU ms/task" for part in PARTS], "bar", label="CPU ms per task")
    publish(arguments, "task_overhead", __doc__, [Table("Empty tasks", rows, "", [plot])], packages=["prefect-dask"])


def measure(run: Callable[..., Any], count: int) -> dict[str, float]:
    """Milliseconds per task. Raises AssertionError where a task did not complete."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    before, started = processor_seconds(), time.perf_counter()
    state: Any = run(count, return_state=True)
    wall_s = time.perf_counter() - started
    assert state.result(_sync=True) == sum(range(count))
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while True:
            runs = client.read_task_runs(flow_run_filter=wanted)
            if sum(run.state_type == "COMPLETED" for run in runs) == count:
                break
            assert time.monotonic() < deadline, f"{len(runs)} of {count} task runs reached the server"
            time.sleep(0.2)
    after = processor_seconds()
    spent = {f"{part}, CPU ms/task": 1000 * (after[part] - before[part]) / count for part in PARTS}
    return {"wall ms/task": 1000 * wall_s / count} | spent
