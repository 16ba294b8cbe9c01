"""Dask worker preload (`dask worker --preload tasks.preload`): threads set, model libraries imported before the first task."""

from __future__ import annotations

import importlib
import threading
from typing import Any

from tasks.threads import threads_per_task

WARM_MODULES = ("tasks.core.models.whisper", "tasks.core.models.yolo")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts. Imports run beside the first tasks; a GPU task waits for what it needs."""
    names = ["tasks.media", "prefect.task_engine"]
    if "GPU" in worker.state.total_resources:
        names += WARM_MODULES
    threading.Thread(target=_warm, args=(names,), name="reelflow-warm", daemon=True).start()


def _warm(names: list[str]) -> None:
    import cv2

    cv2.setNumThreads(threads_per_task())
    for name in names:
        importlib.import_module(name)
