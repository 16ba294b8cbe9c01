"""What a Dask worker calls to run one Prefect task."""

from __future__ import annotations

from typing import Any

from prefect.task_engine import run_task_sync

from tasks.stage import submitted_at


def run(submitted: float, **arguments: Any) -> Any:
    """Runs a task under Prefect's engine and returns its final State. `submitted` is Unix time."""
    token = submitted_at.set(submitted)
    try:
        return run_task_sync(return_type="state", **arguments)
    finally:
        submitted_at.reset(token)


async def drain(timeout_s: float = 10.0) -> None:
    """`flush` for a Dask worker's event loop."""
    import asyncio

    await asyncio.to_thread(flush, timeout_s)


def flush(timeout_s: float = 10.0) -> None:
    """Sends what this process still holds of Prefect's events and logs; call it before its server ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=timeout_s)
