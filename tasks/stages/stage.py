"""A stage is a Prefect task around a body that writes files: cached by content, measured, retried, judged."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, cast

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from tasks.core.errors import SourceChanged, TransientError
from tasks.core.sandbox.children import child_cpu_s
from tasks.core.schema import ArtifactRef, MediaRef, StageTiming
from tasks.records import artifacts
from tasks.stages import canary
from tasks.store import open_store

submitted_at: ContextVar[float | None] = ContextVar("submitted_at", default=None)
"""Unix time at which the running task was handed to the scheduler; set on the worker."""

shares_process: ContextVar[bool] = ContextVar("shares_process", default=False)
"""Do other media have work in this process meanwhile? On a worker: only where one task goes through several at once."""


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Is the failure worth another try? Bad media, a broken installation and a bug of ours stay what they are."""
    if isinstance(state.data, SourceChanged):
        return False  # the flow begins again with the new content
    return isinstance(state.data, TransientError | ConnectionError | TimeoutError)


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}
"""Delays are short, because a waiting task holds its worker."""


def stage(
    name: str, *, version: int, tags: Sequence[str] = (), label: str = "{media.name}"
) -> Callable[[Callable[..., None]], Task[..., ArtifactRef]]:
    """A Prefect task around a stage body that writes its files into the folder `out`.

    The body's first parameter is the MediaRef; its last, `out`, is given here. The key is the digest of stage name,
    version and all other arguments. A stage that is in the store already ends in the state Cached without running.
    A failure that says nothing of whose fault it is is judged by the canary; one that comes of a damaged artifact
    raises DamagedArtifact.
    `label` is the task run's name after the stage, a format string over the parameters.
    """

    def decorate(body: Callable[..., None]) -> Task[..., ArtifactRef]:
        canary.STAGES[name] = body
        signature = inspect.signature(body)
        visible = [p for p in signature.parameters.values() if p.name != "out"]

        @wraps(body)
        def run(media: MediaRef, *args: Any, **kwargs: Any) -> ArtifactRef | State[ArtifactRef]:
            arguments = inspect.Signature(visible).bind(media, *args, **kwargs).arguments
            key = artifacts.content_key(name, version, arguments)
            if found := artifacts.find(open_store(media.store), media.media_id, name, key):
                return Completed(name="Cached", message="Found in the store", data=found)
            make = partial(_make, media, name, key, arguments, body, on_gpu="gpu" in tags)
            try:
                return make()
            except Exception as error:
                if not canary.is_unexplained(error):
                    raise
                return canary.judge(name, arguments, error, make)

        run.__signature__ = inspect.Signature(visible, return_annotation=ArtifactRef)  # type: ignore[attr-defined]
        run.__annotations__ = {k: v for k, v in body.__annotations__.items() if k != "out"} | {"return": ArtifactRef}
        declare: Any = task(name=body.__name__, task_run_name=f"{name}: {label}", tags=list(tags), **RETRY)
        return cast("Task[..., ArtifactRef]", declare(run))

    return decorate


def within(stage: Task[..., ArtifactRef], media: MediaRef, *arguments: Any) -> ArtifactRef:
    """The artifact of a stage, found or made in the task that runs: no task run of its own, and no try but one."""
    found: Any = stage.fn(media, *arguments)
    return cast(ArtifactRef, found.data if isinstance(found, State) else found)


def _make(
    media: MediaRef, name: str, key: str, arguments: dict[str, Any], body: Callable[..., None], *, on_gpu: bool
) -> ArtifactRef:
    store = open_store(media.store)
    inputs = [value for value in artifacts.flatten(arguments) if isinstance(value, ArtifactRef)]
    ready = max([submitted_at.get() or 0.0, *(ref.finished for ref in inputs)])
    meter = Meter()
    with store.workspace() as out:
        with artifacts.reading(inputs):
            body(**arguments, out=out)
        timing = meter.timing(
            queue_s=max(0.0, meter.started - ready) if ready else 0.0,
            bytes_in=sum(ref.timing.bytes_out for ref in inputs) or media.bytes,
            bytes_out=sum(file.stat().st_size for file in out.iterdir()),
        )
        if on_gpu and _has_gpu():
            timing = timing.model_copy(update={"gpu_s": timing.wall_s})
        ref = ArtifactRef(
            media_id=media.media_id,
            stage=name,
            key=key,
            uri=store.uri(f"media/{media.media_id}/{name}/{key}"),
            store=store.address,
            timing=timing,
            finished=time.time(),
        )
        return artifacts.save(store, ref, out)


class Meter:
    """Wall and CPU seconds since it was made, child processes (ffmpeg) included.

    CPU time is the process's on a Dask worker, which runs one task at a time on several threads, and the thread's where
    other media are worked on beside it, as in a flow's process.
    """

    def __init__(self) -> None:
        self.started = time.time()
        self._cpu = _cpu_seconds()

    def timing(self, **more: Any) -> StageTiming:
        return StageTiming(wall_s=time.time() - self.started, cpu_s=_cpu_seconds() - self._cpu, runs=1, **more)


def _cpu_seconds() -> float:
    alone = submitted_at.get() and not shares_process.get()
    own = time.process_time() if alone else time.thread_time()
    return own + child_cpu_s()


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())
