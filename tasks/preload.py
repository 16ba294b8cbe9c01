"""Dask worker preload (`dask worker --preload tasks.preload`): what the first task needs is imported before it.

Imports happen before the worker takes tasks, not beside them: two threads that import Prefect or numba at once can
leave half-made modules behind.
"""

from __future__ import annotations

import importlib
from typing import Any

from tasks.threads import threads_per_task

EVERY_WORKER = ("tasks.worker", "tasks.media", "tasks.publish", "tasks.views", "av", "soundfile")
GPU_WORKER = ("tasks.core.models.whisper", "ultralytics.nn.tasks")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts."""
    import cv2

    from tasks.core.models.yolo import import_ultralytics
    from tasks.settings import settings

    cv2.setNumThreads(threads_per_task())
    names = list(EVERY_WORKER)
    if "GPU" in worker.state.total_resources:
        import_ultralytics(settings().cache)
        names += GPU_WORKER
    for name in names:
        importlib.import_module(name)
