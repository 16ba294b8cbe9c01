"""Tasks that end their worker: importable by name on workers."""

from __future__ import annotations

import os
import signal

from prefect import task


@task
def die() -> None:
    """Kills the worker process."""
    os.kill(os.getpid(), signal.SIGKILL)


@task
def echo(value: object) -> object:
    """Returns what it is given."""
    return value
