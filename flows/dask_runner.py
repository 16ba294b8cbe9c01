"""Prefect tasks on Dask: the tag `gpu` becomes a resource, and a lost worker becomes a retry.

The only place that knows about Dask resources. Every task asks for one unit of `GPU` (tag `gpu`) or of `CPU`, so that
CPU work does not land on GPU workers and the other way round.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable
from typing import Any, cast

import cloudpickle
import httpx
from distributed import Client
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, SettingsContext, TagsContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.futures import PrefectFuture
from prefect.states import Crashed
from prefect.utilities.collections import visit_collection
from prefect.utilities.engine import collect_task_run_inputs_sync
from prefect_dask import DaskTaskRunner
from prefect_dask.task_runners import PrefectDaskFuture

from flows.dask_client import connect, scheduler_address
from tasks import worker
from tasks.core.errors import NoWorker, WorkerLost
from tasks.settings import settings

GPU_TAG = "gpu"
FIRST_TAG = "first"
"""Of tasks that are long: of those that are ready they go first, so that short ones fill the end of a run."""

HEAD_START_S = 1e9
"""By so much such a task counts as submitted earlier."""

RESUBMISSIONS = 1
"""How often a task whose worker was lost is submitted again, after Dask itself has given up on it."""

LOCAL_START_S = 120.0
"""Workers of the local cluster start, and start again when they die, by themselves: the time that this may take."""

RECORDED_S = 2.0
"""After so long a server has written a task run's first state: see flows/embedded_server.py and infra/compose.yaml."""

_LOST = (KilledWorker, FutureCancelledError, CommClosedError)


class ReelflowFuture(PrefectDaskFuture[Any]):
    """A task on the cluster that survives the loss of its worker.

    A task run whose worker died is marked Crashed (Dask alone would leave it Running for ever) and submitted again, its
    lost inputs first. When that fails too, `result` raises WorkerLost.
    """

    def __init__(self, runner: DaskClusterTaskRunner, task: Task[..., Any], parameters: dict[str, Any]) -> None:
        self._runner = runner
        self._task = task
        self._parameters = parameters
        self._resubmissions = 0
        task_run_id = uuid.uuid4()
        super().__init__(task_run_id, runner.place(task, parameters, task_run_id))

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
        while True:
            try:
                return cast("State[Any]", self._wrapped_future.result(timeout=timeout))
            except _LOST as error:
                self._recover(error, timeout)

    def _recover(self, error: BaseException, timeout: float | None) -> None:
        for upstream in self._upstreams():
            upstream.wait(timeout)
        message = f"The Dask worker of task {self._task.name!r} was lost ({type(error).__name__})"
        _mark_crashed(self.task_run_id, message)
        if self._resubmissions >= RESUBMISSIONS:
            raise WorkerLost(
                f"{message} {RESUBMISSIONS + 1} times, so it is given up. Look for memory shortage on its host "
                "(dmesg, container limits); fewer workers (REELFLOW_WORKERS) or a smaller model need less."
            ) from error
        self._resubmissions += 1
        self._task_run_id = uuid.uuid4()
        self._wrapped_future = self._runner.place(self._task, self._parameters, self._task_run_id)

    def _upstreams(self) -> list[ReelflowFuture]:
        found: list[ReelflowFuture] = []
        visit_collection(self._parameters, lambda x: found.append(x) if isinstance(x, ReelflowFuture) else x)
        return found


class DaskClusterTaskRunner(DaskTaskRunner):
    """Runs tasks on the cluster at REELFLOW_DASK_ADDRESS, or on a local one that all flow runs of the process share."""

    _offered: frozenset[str] = frozenset()
    _connection: Client | None = None
    _flow_run: bytes | None = None

    def __init__(self) -> None:
        super().__init__()
        self._placed: list[Any] = []

    def __exit__(self, *exception: Any) -> None:
        """Lets the scheduler forget the run's tasks; the connection stays for other runs."""
        while self._placed:
            self._placed.pop().release()
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
        return ReelflowFuture(self, task, parameters)

    def place(self, task: Task[..., Any], parameters: dict[str, Any], task_run_id: uuid.UUID) -> Any:
        """Hands one task run to the scheduler, on a worker that offers its resource; returns Dask's future."""
        resource = "GPU" if GPU_TAG in task.tags else "CPU"
        self._require(resource)
        inputs = {name: collect_task_run_inputs_sync(value) for name, value in parameters.items()}
        if self._flow_run is None:
            self._flow_run = _flow_run_context()
        now = time.time()
        future = self.client.submit(
            worker.run,
            now,
            settings=_settings_context(),
            flow_run=self._flow_run,
            task=worker.name_of(task),
            task_run_id=task_run_id,
            parameters=self._optimize_futures(parameters),
            wait_for=None,
            dependencies=inputs,
            key=f"{task.name}-{task_run_id}",
            resources={resource: 1},
            priority=(HEAD_START_S if FIRST_TAG in task.tags else 0.0) - now,  # by itself, Dask begins with the last
            pure=False,
        )
        self._placed.append(future)
        return future

    def _require(self, resource: str) -> None:
        """Raises NoWorker when no worker offers the resource: Dask would wait for one for ever."""
        if resource in self._offered:
            return
        patience_s = settings().worker_wait_s if settings().dask_address else LOCAL_START_S
        deadline = time.monotonic() + patience_s
        while True:
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            self._offered = frozenset(name for w in workers for name, amount in w["resources"].items() if amount >= 1)
            if resource in self._offered:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        address = self.client.scheduler_info(n_workers=0)["address"]
        raise NoWorker(
            f"No Dask worker at {address} offers the resource {resource} ({len(workers)} workers are there). "
            f"Start one: dask worker {address} --nthreads 1 --resources {resource}=1 --preload tasks.preload"
        )


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
