"""Dask scheduler preload (`dask scheduler --preload infra.scheduler`): demand by resource, for what scales the workers.

Dask's own figure of how many workers are wanted takes all workers as equal, and so does its choice of those to close:
an autoscaler of CPU workers would start them for GPU tasks, and close idle GPU workers instead of CPU workers.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import WorkerState
from tornado.web import RequestHandler

SCALED = "CPU"
"""What the workers of an autoscaler that follows Dask's protocol (dask-kubernetes) offer."""

RESOURCES = ("CPU", "GPU")
_WANTED = {"queued", "no-worker", "processing"}


def demand(scheduler: Scheduler) -> dict[str, dict[str, int]]:
    """Of each resource: units that tasks wait for or hold, and the workers that offer it."""
    tasks = dict.fromkeys(RESOURCES, 0.0)
    for task in scheduler.tasks.values():
        if task.state in _WANTED:
            for name, amount in (task.resource_restrictions or {}).items():
                tasks[name] = tasks.get(name, 0.0) + amount
    return {
        name: {
            "tasks": round(wanted),
            "workers": sum(worker.resources.get(name, 0) >= 1 for worker in scheduler.workers.values()),
        }
        for name, wanted in tasks.items()
    }


class Demand(RequestHandler):
    """`GET /demand` on the dashboard's port: {"CPU": {"tasks": 12, "workers": 4}, "GPU": ...}."""

    def initialize(self, dask_server: Scheduler) -> None:
        self._scheduler = dask_server

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(demand(self._scheduler))


class OnlyScaledWorkersClose(SchedulerPlugin):
    """Where Dask may choose, only CPU workers close; a worker that offers GPU as well counts as a GPU worker."""

    name = "reelflow-only-scaled-workers-close"

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[WorkerState]) -> list[WorkerState]:
        return [worker for worker in workers if set(worker.resources) == {SCALED}]


def dask_setup(scheduler: Scheduler) -> None:
    """Called by Dask when the scheduler starts."""
    scheduler.add_plugin(OnlyScaledWorkersClose())

    def adaptive_target(**_: Any) -> int:
        return demand(scheduler)[SCALED]["tasks"]

    scheduler.handlers["adaptive_target"] = adaptive_target
    vars(scheduler)["adaptive_target"] = adaptive_target  # what Dask's pages ask (distributed.http.scheduler.api)
    scheduler.http_application.add_handlers(".*", [("/demand", Demand, {"dask_server": scheduler})])
