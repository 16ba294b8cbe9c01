"""Tasks that end their worker: importable by name on workers."""

from __future__ import annotations

import os
import signal
import time

from prefect import task


@task
def die() -> None:
    """Kills the worker process."""
    time.sleep(1)  # long enough for the server to hear that it runs
    os.kill(os.getpid(), signal.SIGKILL)


@task
def echo(value: object) -> object:
    """Returns what it is given."""
    return value
