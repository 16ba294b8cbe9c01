"""Threads of one worker process, divided so that cores are neither idle nor oversubscribed."""

from __future__ import annotations

import os

from tasks.core.host import available_cores

__all__ = ["LIBRARIES", "available_cores", "threads_per_task"]

LIBRARIES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that numerical libraries read once, at import."""


def threads_per_task() -> int:
    """Threads that a task of this process may use: OMP_NUM_THREADS, or all cores."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdigit() and int(stated) > 0 else available_cores()
