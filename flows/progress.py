"""How far a run is: told to the Prefect UI as an artifact, and to whoever listens in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture

PATIENCE_S = 3.0
"""A run that is over sooner needs no progress artifact; a backfill of many small media would make thousands."""

Listener = Callable[[str, int, int], None]
"""Called with stage, tasks done and tasks expected."""

listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
"""Set by a command line that draws a progress bar; flows run in its context."""


@contextmanager
def decoration() -> Iterator[None]:
    """What only shows how far a run is must not end it when the server is away for a moment."""
    try:
        yield
    except httpx.HTTPError as error:
        logging.getLogger("reelflow").warning("progress is not shown: %s", type(error).__name__)


class Progress:
    """Counts tasks by stage. Made inside a flow run."""

    def __init__(self, description: str) -> None:
        self._expected: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._description = description
        self._shown = 0.0
        self._started = time.monotonic()
        self._artifact: UUID | None = None

    def expect(self, stage: str, count: int = 1) -> None:
        """Announces tasks of a stage."""
        self._expected[stage] = self._expected.get(stage, 0) + count
        self._tell(stage)

    def gather(self, stage: str, futures: Iterable[PrefectFuture[Any]]) -> list[Any]:
        """The futures' results in order, counted as they come. Raises the first failure."""
        return [self.step(stage, future.result()) for future in futures]

    def step(self, stage: str, result: Any = None) -> Any:
        """Counts one task as done and passes its result on."""
        self._done[stage] = self._done.get(stage, 0) + 1
        self._tell(stage)
        return result

    def finish(self) -> None:
        """Says 100%."""
        if self._artifact:
            self._show(100.0)

    def _tell(self, stage: str) -> None:
        if heard := listener.get():
            heard(stage, self._done.get(stage, 0), self._expected.get(stage, 0))
        percent = 100.0 * sum(self._done.values()) / max(1, sum(self._expected.values()))
        if percent >= self._shown + 5.0 and time.monotonic() - self._started > PATIENCE_S:
            self._shown = percent
            self._show(min(percent, 99.0))

    def _show(self, percent: float) -> None:
        with decoration():
            if self._artifact:
                update_progress_artifact(self._artifact, progress=percent)
                return
            artifact = create_progress_artifact(progress=percent, description=self._description)
            self._artifact = artifact  # type: ignore[assignment]
