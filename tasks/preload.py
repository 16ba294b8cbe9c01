"""Dask worker preload (`dask worker --preload tasks.preload`): what the first task needs is imported before it.

Imports happen before the worker takes tasks, not beside them: two threads that import Prefect or numba at once can
leave half-made modules behind.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from typing import Any

from tasks.core.frames import DECODER
from tasks.core.sandbox.children import warm
from tasks.workers.threads import threads_per_task

EVERY_WORKER = (
    "tasks.workers.worker",
    "tasks.stages.media",
    "tasks.stages.publish",
    "tasks.records.views",
    "tasks.core.frames",
    "tasks.core.frame_batch",
    "tasks.core.describe",
    "tasks.core.scenes",
    "tasks.store.s3",
    "boto3.s3.inject",
    "soundfile",
    "flows.analyze_media",
    "flows.runtime.dask_runner",
)
"""The last two by name, as worker.find would import them in the first task."""

GPU_WORKER = ("tasks.core.models.whisper", "tasks.core.models.siglip", "ultralytics.nn.tasks")


USUAL_SIZES = ((640, 360), (640, 480), (360, 640))
"""Batches of these are detected on before the first task: OpenVINO compiles for the shape of each batch anew."""


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts."""
    import cv2
    from prefect.utilities.asyncutils import run_coro_as_sync

    from tasks.settings import settings

    on_gpu = "GPU" in worker.state.total_resources
    warm(DECODER)  # beside the imports of this process
    import_all(gpu=on_gpu)
    cv2.setNumThreads(threads_per_task())
    run_coro_as_sync(asyncio.sleep(0))  # starts the event loop that Prefect's engine asks for limits on
    if (address := settings().store).startswith("s3://"):
        threading.Thread(target=connect, args=(address,), name="reelflow-store", daemon=True).start()
    if on_gpu:
        load_models(settings().preload_models)


async def dask_teardown(worker: Any) -> None:
    """Called by Dask when a worker is retired or ended: what it knows of its task runs reaches the server first."""
    from tasks.workers.worker import drain

    await drain()


def import_all(*, gpu: bool) -> None:
    """Imports what tasks need, those on GPU workers too or not."""
    names = list(EVERY_WORKER)
    if gpu:
        from tasks.core.models.yolo import import_ultralytics
        from tasks.settings import settings

        import_ultralytics(settings().cache)
        names += GPU_WORKER
    for name in names:
        importlib.import_module(name)


def connect(address: str) -> None:
    """Makes the client of a store in a bucket and its first connection; what is wrong there, the first task says."""
    from tasks.core.errors import ReelflowError
    from tasks.store import open_store

    try:
        open_store(address).size("reelflow")
    except ReelflowError as error:
        logging.getLogger(__name__).warning("The store does not answer: %s", error.message)


def load_models(assignments: str) -> None:
    """Loads the models that these options name ("transcript.model=base.en detections.weights=yolo11n.pt").

    They are loaded by the tasks' own loaders and used once, which allocates and compiles, so the first task finds them.
    Raises UnknownOption for what is no option, and ModelNotFound for weights that are not here.
    """
    import numpy as np

    from tasks.core.models import whisper, yolo
    from tasks.core.options import parse_options
    from tasks.core.schema import SpeechWindow
    from tasks.records.lookup import find_models
    from tasks.stages import speech, text_bank, vision

    named = {assignment.partition(".")[0] for assignment in assignments.split()}
    if not named:
        return
    unnamed = [f"{stage}.enabled=false" for stage in ("transcript", "detections", "embeddings") if stage not in named]
    options = parse_options([*assignments.split(), *unnamed])
    models, _ = find_models(options)
    pictures = [np.zeros((height, width, 3), np.uint8) for width, height in USUAL_SIZES for _ in range(yolo.CPU_BATCH)]
    if "transcript" in models:
        speaker = speech.load_model(models["transcript"], options.transcript)
        second = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
        language = whisper.detect_language(speaker, [second])
        whisper.transcribe(speaker, [SpeechWindow(start=0.0, end=1.0)], [second], options.transcript, language.code)
    if "detections" in models:
        detector = vision.load_model(models["detections"], options.detections)
        yolo.detect(detector, pictures, USUAL_SIZES[0], options.detections)
    if "embeddings" in models:
        text_bank.load_embedder(models["embeddings"], options.embeddings).embed_images(pictures[:1])
