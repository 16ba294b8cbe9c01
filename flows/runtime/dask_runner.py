"""Prefect tasks on Dask: the tag `gpu` becomes a resource, and a lost worker becomes a retry.

The only place that knows about Dask resources. Every task asks for one unit of `GPU` (tag `gpu`) or of `CPU`, so that
CPU work does not land on GPU workers and the other way round.
"""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, cast

import cloudpickle
import httpx
from distributed import Client
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    TaskRunFilter,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext, SettingsContext, TagsContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.futures import PrefectFuture
from prefect.states import Crashed
from prefect.utilities.annotations import BaseAnnotation
from prefect.utilities.collections import visit_collection
from prefect.utilities.engine import collect_task_run_inputs_sync
from prefect_dask import DaskTaskRunner
from prefect_dask.task_runners import PrefectDaskFuture

from flows.runtime.dask_client import connect, scheduler_address
from flows.runtime.worker_watch import WATCH_S, WorkerWatch
from tasks.core.errors import NoWorker, WorkerLost
from tasks.workers import worker
from tasks.workers.precedence import FIRST_TAG

GPU_TAG = "gpu"
HEAD_START_S = 1e9
"""By so much a task tagged `first` counts as submitted earlier."""

RESUBMISSIONS = 1
"""How often a task whose worker was lost is submitted again, after Dask itself has given up on it."""

RECORDED_S = 2.0
"""After so long a server has written a task run's first state: see embedded_server.py and infra/compose.yaml."""

_LOST = (KilledWorker, FutureCancelledError, CommClosedError)


class ReelflowFuture(PrefectDaskFuture[Any]):
    """A task on the cluster that survives the loss of its worker.

    A task run whose worker died is marked Crashed (Dask alone would leave it Running for ever) and submitted again, its
    lost inputs first. When that fails too, or no worker is left that could do it, the future is Crashed and `result`
    raises WorkerLost or NoWorker.
    """

    def __init__(
        self,
        runner: DaskClusterTaskRunner,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> None:
        self._runner = runner
        self._task = task
        self._parameters = parameters
        self._wait_for = _listed(wait_for)
        self._dependencies = dependencies or {}
        self._began: float = max((upstream._began for upstream in self._upstreams()), default=time.time())
        """Unix time of its place in the queue. What goes on with another task's result stands where that one stood:
        what was begun is finished before more is begun."""
        self._resubmissions = 0
        super().__init__(*self._place())

    def wait(self, timeout: float | None = None) -> None:
        if self._final_state is None:
            try:
                self._final_state = self._settle(timeout)
            except TimeoutError:
                return

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        if self._final_state is None:
            self._final_state = self._settle(timeout)
        if not self._final_state.is_final():
            for upstream in self._upstreams():
                upstream.result(timeout)
        return cast(Any, self._final_state).result(raise_on_failure=raise_on_failure, _sync=True)

    def _settle(self, timeout: float | None) -> State[Any]:
        """The task run's state at its end. Raises TimeoutError."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try:
                outcome = self._outcome(deadline)
                if isinstance(outcome, BaseException):
                    self._recover(outcome, deadline)
            except Exception as error:
                return Crashed(message=str(error), data=error)
            if isinstance(outcome, State):
                return outcome
            if outcome is None:
                raise TimeoutError(f"Task run {self.task_run_id} did not complete within {timeout} seconds")

    def _outcome(self, deadline: float) -> State[Any] | BaseException | None:
        """The state that the task returned, or why there is none; None where it still runs at the deadline.

        Raises NoWorker when nobody is left who could do it.
        """
        while True:
            pause_s = max(0.0, min(WATCH_S, deadline - time.monotonic()))
            try:
                error = self._wrapped_future.exception(timeout=pause_s)
                return error or cast("State[Any]", self._wrapped_future.result(timeout=pause_s))
            except _LOST as lost:
                return lost
            except TimeoutError:
                if time.monotonic() >= deadline:
                    return None
            self._runner.look()

    def _recover(self, error: BaseException, deadline: float) -> None:
        """Submits the task again, after its inputs. Raises what cannot be mended."""
        if not isinstance(error, _LOST):
            raise error
        for upstream in self._upstreams():
            upstream.wait(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
            if upstream._final_state is not None and upstream._final_state.is_crashed():
                upstream.result()
        message = f"The Dask worker of task {self._task.name!r} was lost ({type(error).__name__})"
        _mark_crashed(self.task_run_id, message)
        if self._resubmissions >= RESUBMISSIONS:
            raise WorkerLost(
                f"{message} {RESUBMISSIONS + 1} times, so it is given up. Look for memory shortage on its host "
                "(dmesg, container limits); fewer workers (REELFLOW_WORKERS) or a smaller model need less."
            ) from error
        self._resubmissions += 1
        self._task_run_id, self._wrapped_future = self._place()

    def _place(self) -> tuple[uuid.UUID, Any]:
        task_run_id = uuid.uuid4()
        placed = self._runner.place(
            self._task, self._parameters, task_run_id, self._began, self._wait_for, self._dependencies
        )
        return task_run_id, placed

    def _upstreams(self) -> list[ReelflowFuture]:
        found: list[ReelflowFuture] = []
        inputs = (self._parameters, self._wait_for)
        visit_collection(inputs, lambda x: found.append(x) if isinstance(x, ReelflowFuture) else x)
        return found


class DaskClusterTaskRunner(DaskTaskRunner):
    """Runs tasks on the cluster at REELFLOW_DASK_ADDRESS, or on a local one that all flow runs of the process share."""

    _connection: Client | None = None
    _flow_run: bytes | None = None

    def __init__(self) -> None:
        super().__init__()
        self._watch = WorkerWatch()
        self._placed: list[tuple[Any, str, uuid.UUID]] = []
        """Dask's future, the resource that it needs, and the task run's id."""

    def __exit__(self, *exception: Any) -> None:
        """Lets the scheduler forget the run's tasks; the connection stays for other runs."""
        while self._placed:
            self._placed.pop()[0].release()
        super().__exit__(*exception)

    def duplicate(self) -> DaskClusterTaskRunner:
        return type(self)()

    @property
    def client(self) -> Client:  # type: ignore[override] # a plain client: `place` does what Prefect's own would
        """The connection to the scheduler, made at the first submission."""
        if self._connection is None:
            self._connection = connect(scheduler_address())
        return self._connection

    def submit(  # type: ignore[override]
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> ReelflowFuture:
        return ReelflowFuture(self, task, parameters, wait_for, dependencies)

    def place(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        task_run_id: uuid.UUID,
        began: float,
        wait_for: Sequence[Any] = (),
        dependencies: Mapping[str, set[Any]] = MappingProxyType({}),
    ) -> Any:
        """Hands one task run to the scheduler, on a worker that offers its resource; returns Dask's future.

        Of tasks that are ready the one that `began` first, in Unix time, goes first.
        """
        resource = "GPU" if GPU_TAG in task.tags else "CPU"
        self._watch.require(resource)
        inputs = {
            name: collect_task_run_inputs_sync(value) | dependencies.get(name, set())
            for name, value in parameters.items()
        }
        if self._flow_run is None:
            self._flow_run = _flow_run_context()
        future = self.client.submit(
            worker.run,
            time.time(),
            settings=_settings_context(),
            flow_run=self._flow_run,
            task=worker.name_of(task),
            task_run_id=task_run_id,
            parameters=self._optimize_futures(parameters),
            wait_for=self._optimize_futures(list(wait_for)) or None,
            dependencies=inputs,
            key=f"{task.name}-{task_run_id}",
            resources={resource: 1},
            priority=(HEAD_START_S if FIRST_TAG in task.tags else 0.0) - began,  # by itself, Dask begins with the last
            pure=False,
        )
        self._placed.append((future, resource, task_run_id))
        return future

    def look(self) -> None:
        """Looks whether workers are there for the tasks that are not done. Raises NoWorker, see WorkerWatch.look."""
        waiting = [placed for placed in self._placed if not placed[0].done()]
        try:
            for resource in {resource for _, resource, _ in waiting}:
                self._watch.look(resource)
        except NoWorker as error:
            self.client.cancel([future for future, _, _ in waiting])
            with suppress(httpx.HTTPError):  # flows/sweep_task_runs.py finds those that are left
                _crash_running([task_run_id for _, _, task_run_id in waiting], error.message)
            raise


def _flow_run_context() -> bytes:
    """The flow run as its tasks need it on a worker; the flow itself by name.

    The result store goes as it is: to make its block from a description, Prefect imports every integration that is
    installed, for seconds, in each worker's first task.
    """
    run = FlowRunContext.get()
    serialized = run.serialize() if run else {}
    if run and serialized:
        serialized |= {"flow": worker.name_of(serialized["flow"]), "result_store": run.result_store}
    return bytes(cloudpickle.dumps({"flow_run_context": serialized, "tags_context": TagsContext.get().serialize()}))


def _listed(wait_for: Any) -> list[Any]:
    """What Prefect lets a task wait for: a future, a state or one of them in an annotation; several; or nothing."""
    if wait_for is None:
        return []
    several = isinstance(wait_for, list | tuple | set | Iterator) and not isinstance(wait_for, BaseAnnotation)
    return list(wait_for) if several else [wait_for]


_settings: tuple[Any, worker.SentSettings | None] = (None, None)


def _settings_context() -> worker.SentSettings | None:
    """Prefect's settings in this context; made again only when they are others."""
    global _settings
    current = SettingsContext.get()
    if current and _settings[0] is not current.settings:
        described = bytes(cloudpickle.dumps(current.serialize()))
        pickled = bytes(cloudpickle.dumps((current.profile, current.settings)))
        _settings = (current.settings, worker.SentSettings(hashlib.sha256(described).hexdigest(), pickled))
    return _settings[1]


def _mark_crashed(task_run_id: uuid.UUID, message: str) -> None:
    """Servers write what they hear of task runs with a delay, so one that is not known yet is asked for again."""
    client = get_client(sync_client=True)
    for pause_s in (0.0, RECORDED_S):
        time.sleep(pause_s)
        try:
            client.set_task_run_state(task_run_id, Crashed(message=message), force=True)
            return
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:  # a run that never started is unknown to the server
                raise


def _crash_running(task_run_ids: list[uuid.UUID], message: str) -> None:
    """Those of the task runs that are Running, a lost worker's for ever; the others never started."""
    time.sleep(RECORDED_S)
    running = TaskRunFilter(
        id=TaskRunFilterId(any_=task_run_ids),
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])),
    )
    client = get_client(sync_client=True)
    for run in client.read_task_runs(task_run_filter=running):
        client.set_task_run_state(run.id, Crashed(message=message), force=True)
