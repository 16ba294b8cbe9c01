"""Small flows that the tests deploy."""

from __future__ import annotations

import os
import sys
import time

from prefect import flow, get_run_logger, task


@task
def wait(seconds: float) -> None:
    """Takes its time."""
    time.sleep(seconds)


@flow(name="toy-sleep", log_prints=False)
def sleep(seconds: float = 0.0) -> int:
    """One task; says how many modules this run had to import.

    Args:
        seconds: How long the task takes.
    """
    get_run_logger().info("modules %d pid %d parent %d", len(sys.modules), os.getpid(), os.getppid())
    wait(seconds)
    get_run_logger().info("modules %d", len(sys.modules))
    return 0


@flow(name="toy-die")
def die() -> None:
    """Its process is gone without a word."""
    os._exit(9)
