"""What a Dask worker calls to run one Prefect task.

Prefect would send all its settings with each task and rebuild them and an HTTP client in the worker, which takes longer
than a small task. Here a worker keeps both for the tasks to come, and tasks and flows travel by name.
"""

from __future__ import annotations

import importlib
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from prefect import Task
from prefect.context import SettingsContext, SyncClientContext, hydrated_context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from prefect.task_engine import run_task_sync

from tasks.stages.stage import submitted_at
from tasks.workers.api_certificates import spared
from tasks.workers.precedence import Precedence

Name = tuple[str, str]
"""Module and qualified name."""


@dataclass(frozen=True)
class SentSettings:
    """Prefect's settings as they travel: those that have the same digest are the same."""

    digest: str
    pickled: bytes = field(compare=False, repr=False)
    """(Profile, Settings) as they are: made from a description, 54 models would read the environment again."""


_precedence = Precedence()


def name_of(found: Any) -> Any:
    """Where a worker finds a task or a flow; the object itself where it is no module's attribute."""
    name = (found.fn.__module__, found.fn.__qualname__)
    module = importlib.import_module(name[0])
    return name if getattr(module, name[1], None) is found else found


def find(named: Any) -> Any:
    """What `name_of` named."""
    return getattr(importlib.import_module(named[0]), named[1]) if isinstance(named, tuple) else named


def run(
    submitted: float, settings: SentSettings, flow_run: bytes, task: Name | Task[..., Any], **arguments: Any
) -> Any:
    """Runs a task under Prefect's engine and returns its final State.

    `submitted` is Unix time; `settings` and `flow_run` are what flows/runtime/dask_runner.py made of the flow run's
    context.
    """
    session = _session(settings, threading.get_ident())
    found = find(task)
    api = (str(session.run(PREFECT_API_URL.value)), session.run(PREFECT_API_AUTH_STRING.value))
    with _precedence.of(found, arguments["parameters"].get("media")), _turn(api):
        return session.copy().run(_run, submitted, flow_run, found, arguments)


def _run(submitted: float, flow_run: bytes, task: Task[..., Any], arguments: dict[str, Any]) -> Any:
    submitted_at.set(submitted)
    context = pickle.loads(flow_run)  # noqa: S301 # the scheduler sends it, as it sends the call itself
    if known := context["flow_run_context"]:
        known["flow"] = find(known["flow"])
    with hydrated_context(context):
        return run_task_sync(task=task, return_type="state", **arguments)


@lru_cache(maxsize=8)
def _session(settings: SentSettings, _thread: int) -> Context:
    """A context with these settings and an open client: httpx clients are kept by one thread each."""
    context = copy_context()
    context.run(_open, settings)
    return context


def _open(settings: SentSettings) -> None:
    profile, values = pickle.loads(settings.pickled)  # noqa: S301 # as above
    SettingsContext(profile=profile, settings=spared(values)).__enter__()
    SyncClientContext().__enter__()


Api = tuple[str, str | None]
"""URL and auth string: a server that follows another at the same port has another one."""

_queue, _turns = threading.Lock(), threading.Condition()
_api: Api = ("", None)
_running = 0


@contextmanager
def _turn(api: Api) -> Iterator[None]:
    """Tasks of one Prefect API at a time, in the order in which they came.

    Prefect keeps one queue for events and one for slots in a process, and each keeps the API that it was made with.
    """
    global _api, _running
    with _queue, _turns:
        _turns.wait_for(lambda: _api == api or not _running)
        if _api != api:
            if _api[0]:
                flush()
            _api = api
        _running += 1
    try:
        yield
    finally:
        with _turns:
            _running -= 1
            _turns.notify_all()


async def drain(api: str | None = None) -> None:
    """`flush` for a Dask worker's event loop; with an API's URL, only where this process speaks to that one."""
    import asyncio

    await asyncio.to_thread(_leave, api)


def _leave(api: str | None) -> None:
    with _turns:
        if api in (None, _api[0]):
            flush()


def flush(timeout_s: float = 10.0) -> None:
    """Sends what this process still holds of Prefect's events and logs; call it before its server ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=timeout_s)
