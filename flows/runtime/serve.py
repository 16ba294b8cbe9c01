"""A Prefect worker whose flow runs start warm: each is forked from a process that has imported everything already.

`prefect worker start` gives each flow run a new Python, which imports Prefect, Dask and the flow for seconds. This one
polls the same work pool, so the deployments of prefect.yaml stay as they are. Each run is still a process of its own:
it can be cancelled or can crash alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_flow_run
from prefect.runner._control_channel import ControlChannel
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.utilities.processutils import sanitize_subprocess_env
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.cli.console import say
from flows.runtime import fork_server
from tasks.core.errors import SetupError
from tasks.workers.api_certificates import VARIABLE, file_for

PRELOAD = (
    "anyio._backends._asyncio",
    "anyio.streams.tls",
    "boto3.s3.inject",
    "email.headerregistry",
    "flows.runtime.dask_runner",
    "prefect.artifacts",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "tasks.store.folder",
    "tasks.store.s3",
    "tasks.workers.worker",
    "tornado.platform.asyncio",
)
"""What a flow run imports on its way, besides the modules of the flows themselves."""


def serve(pool: str, *, limit: int, poll_s: float, grace_s: float) -> None:
    """Executes the flow runs of a work pool until SIGTERM or SIGINT; then awaits those in flight for `grace_s` seconds.

    What still runs after that is ended and marked Crashed. A second signal does not wait. Raises SetupError when there
    is no such pool.
    """
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: poll_s}):
        asyncio.run(_serve(pool, limit, grace_s))


async def _serve(pool: str, limit: int, grace_s: float) -> None:
    entrypoints = await _entrypoints(pool)
    modules = sorted({entrypoint.rpartition(".")[0] for entrypoint in entrypoints})
    context = fork_server.start([*PRELOAD, *modules])
    await anyio.to_thread.run_sync(fork_server.wait, context)
    worker = WarmWorker(
        context,
        work_pool_name=pool,
        name=f"served-{os.uname().nodename}-{os.getpid()}",
        limit=limit,
        create_pool_if_not_found=False,
    )
    working = asyncio.create_task(worker.start(printer=say))
    stopping: asyncio.Task[None] | None = None

    def stop() -> None:
        nonlocal stopping
        if stopping is None:
            stopping = asyncio.create_task(_stop(worker, working, grace_s))
        else:
            working.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    say(f"Serving {', '.join(sorted(entrypoints)) or 'a pool without deployments'}, {limit} runs at a time")
    try:
        await working
    except asyncio.CancelledError:
        say("Ended.")


async def _stop(worker: WarmWorker, working: asyncio.Task[None], grace_s: float) -> None:
    worker.drains = True
    say(f"Ending: {worker.in_flight} runs are in flight; waiting for them at most {grace_s:.0f} s")
    with anyio.move_on_after(grace_s):
        while worker.in_flight:
            await anyio.sleep(0.2)
    working.cancel()


async def _entrypoints(pool: str) -> set[str]:
    async with get_client() as client:
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound as error:
            raise SetupError(f"There is no work pool {pool!r}; `python -m deployments apply` makes it.") from error
        if found.type != WarmWorker.type:
            raise SetupError(f"The work pool {pool!r} is of type {found.type}; only process pools can be served.")
        only = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        return {d.entrypoint for d in await client.read_deployments(work_pool_filter=only) if d.entrypoint}


class WarmWorker(ProcessWorker):
    """A process worker that forks its flow runs."""

    @staticmethod
    def __dispatch_key__() -> str:
        return "process-warm"  # Prefect's registry keeps its own worker for the type

    def __init__(self, context: Any, **options: Any) -> None:
        super().__init__(**options)
        self._context = context
        self.drains = False
        """No more flow runs are taken."""

    @property
    def in_flight(self) -> int:
        """Flow runs that this worker has taken and not finished."""
        return int(self.limiter.borrowed_tokens)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        return [] if self.drains else await super().get_and_submit_flow_runs()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Executes one flow run in a forked process, under the same supervision as Prefect's own worker."""
        if flow_run.deployment_id is None:
            raise SetupError(f"The flow run {flow_run.name} has no deployment to say what to run.")
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        async with FlowRunExecutorContext() as supervision:
            starter = _ForkStarter(
                self._context, deployment.entrypoint or "", configuration.env, supervision.control_channel
            )
            executor = supervision.create_executor(
                flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
            )
            ended = []

            async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
                ended.append(await executor.submit(task_status=task_status))

            async with anyio.create_task_group() as group:
                handle = await group.start(execute)
                if task_status is not None:
                    task_status.started(handle.pid)
        result = ended[0]
        if result is None or result.status_code is None:
            raise RuntimeError(f"The process of flow run {flow_run.name} could not be started")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))


class _ForkStarter:
    """Prefect's protocol for starting a flow run's process."""

    def __init__(
        self, context: Any, entrypoint: str, environment: Mapping[str, str | None], control: ControlChannel
    ) -> None:
        self._context = context
        self._entrypoint = entrypoint
        self._environment = environment
        self._control = control

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Forks, says who it is, and returns when the process has ended."""
        port, token = self._control.register(flow_run.id)
        environment = dict(self._environment) | {
            VARIABLE: file_for(self._environment.get("PREFECT_API_URL"), self._environment.get(VARIABLE)),
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            "PREFECT__CONTROL_PORT": str(port),
            "PREFECT__CONTROL_TOKEN": token,
        }
        process = self._context.Process(
            target=execute_flow_run,
            args=(flow_run.id, self._entrypoint, sanitize_subprocess_env(environment)),
            name=f"flow-run-{flow_run.name}",
        )
        try:
            await anyio.to_thread.run_sync(process.start)
        except BaseException:
            self._control.unregister(flow_run.id)
            raise
        task_status.started(ProcessHandle(process))
        await anyio.to_thread.run_sync(process.join, abandon_on_cancel=True)


def execute_flow_run(flow_run_id: UUID, entrypoint: str, environment: dict[str, str]) -> None:
    """What the forked process does: the flow run, under Prefect's engine."""
    from prefect.context import SettingsContext, get_settings_context
    from prefect.flow_engine import _run_flow_from_runtime_entrypoint
    from prefect.settings import Settings

    os.environ.clear()
    os.environ.update(environment)
    with SettingsContext(profile=get_settings_context().profile, settings=Settings()):
        _run_flow_from_runtime_entrypoint(flow_run_id, entrypoint)
