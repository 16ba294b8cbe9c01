"""On a worker: what takes long does not slip in before the next step of a branch that more work hangs on.

A Dask worker takes up its next task at once. When a step ends whose successor it does not hold yet, because the
scheduler, or the flow that plans it, is told only then, that is whatever else is ready; and a task that runs is not
interrupted. So a short chain of steps, each followed by a minute of frames, would start the transcript, which is the
longest task of a media, minutes late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Reschedule
from prefect import Task

from tasks.core.schema import MediaRef

FIRST_TAG = "first"
"""Of tasks that are long: of those that are ready they go first, so that short ones fill the end of a run."""

LEADS_TAG = "leads"
"""Of tasks that such a one waits for."""

HOLD_S = 0.2
"""So long after one the successor is waited for: a flow hears of the end, reads the result, plans and submits."""

STEP_S = 0.015
"""So often it is looked whether it has come."""

LARGE_BYTES = 2**21
"""Only tasks of larger media wait: those of a small one are over before it matters."""


class Precedence:
    """What a worker process knows of the last task that it ran."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held_until = 0.0

    @contextmanager
    def of(self, task: Task[..., object], media: object) -> Iterator[None]:
        """Runs the block as this task of a media. Raises Reschedule where another is to be looked for first."""
        may_wait = isinstance(media, MediaRef) and media.bytes >= LARGE_BYTES
        with self._lock:
            waits = may_wait and not task.tags & {FIRST_TAG, LEADS_TAG} and time.monotonic() < self._held_until
        if waits:
            time.sleep(STEP_S)
            raise Reschedule
        yield
        if LEADS_TAG in task.tags:
            with self._lock:
                self._held_until = time.monotonic() + HOLD_S
