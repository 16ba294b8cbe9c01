"""Tasks that end their worker, or are slow, or fail: importable by name on workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from prefect import task

from tasks.core.schema import MediaRef
from tasks.workers.precedence import FIRST_TAG, LEADS_TAG


@task
def die() -> None:
    """Kills the worker process."""
    time.sleep(1)  # long enough for the server to hear that it runs
    os.kill(os.getpid(), signal.SIGKILL)


@task
def fail() -> None:
    """Ends as Failed."""
    raise ValueError("it was to fail")


@task
def write(path: str, text: str, after_s: float = 0.0) -> str:
    """Appends to a file, after a while."""
    time.sleep(after_s)
    with Path(path).open("a") as file:
        file.write(text)
    return text


@task
def echo(value: object) -> object:
    """Returns what it is given."""
    return value


@task
def span(media: MediaRef, for_s: float) -> tuple[float, float]:
    """Takes so long; returns when, in Unix time."""
    started = time.time()
    time.sleep(for_s)
    return started, time.time()


@task(tags=[LEADS_TAG])
def leading_span(media: MediaRef, for_s: float) -> tuple[float, float]:
    """The same, for longer work to follow."""
    return span.fn(media, for_s)


@task(tags=[FIRST_TAG])
def first_span(media: MediaRef, for_s: float, after: object = None) -> tuple[float, float]:
    """The same, as the longer work."""
    return span.fn(media, for_s)
