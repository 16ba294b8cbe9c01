"""The sweep: what stands under the prefix and has no result yet, whatever events said of it. It keeps no clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from flows.backfill.batch import in_parallel
from flows.watch.desk import Desk
from tasks.core.errors import PermanentError, ReelflowError
from tasks.core.listing import Listed, list_media
from tasks.records.lookup import unexpected
from tasks.settings import settings

LOOKS: Final = 8
"""Objects that are looked up in the store at the same time."""

FIRST_S: Final = 60.0
"""How long the first sweep leaves what is in the queue to the queue."""

AHEAD: Final = 2
"""Objects that wait for each one in work: a sweep of a million makes no million runs at once."""


class Sweeper:
    """A thread that lists the prefix at its start, every `every_s` seconds, and whenever it is asked to."""

    def __init__(
        self, desk: Desk, every_s: float, context: Context, say: logging.Logger | Any, after: threading.Event | None
    ) -> None:
        """The first sweep begins when `after` is set, or soon."""
        self._desk = desk
        self._every_s = every_s
        self._after = after
        self._say = say
        self._stop = threading.Event()
        self._wanted = threading.Event()
        self._begun = 0
        self.completed = 0
        """Number of the last sweep that went through to the end."""
        self.last: dict[str, Any] = {}
        self._thread = threading.Thread(
            target=context.copy().run, args=(self._run,), name="reelflow-sweep", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        self._thread.join(5)

    def ask(self) -> Callable[[], bool]:
        """Wants a sweep that begins after now; tells whether it has gone through."""
        number = self._begun + 1
        self._wanted.set()
        return lambda: self.completed >= number

    def _run(self) -> None:
        deadline = time.monotonic() + FIRST_S
        while self._after and not self._after.wait(0.5) and not self._stop.is_set() and time.monotonic() < deadline:
            pass
        while not self._stop.is_set():
            self._wanted.clear()
            self._begun += 1
            number, started = self._begun, time.monotonic()
            try:
                listed, taken = self._sweep()
                if self._stop.is_set():
                    return
                self.completed = number
                self.last = {"listed": listed, "taken": taken, "seconds": round(time.monotonic() - started, 3)}
                if taken:
                    self._say.info("A sweep of %d objects found %d that no event had told of", listed, taken)
            except Exception as error:
                said = error.message if isinstance(error, ReelflowError) else unexpected(error).message
                self._say.error("The sweep ended early, the next one begins anew: %s", said)
            self._wanted.wait(self._every_s)

    def _sweep(self) -> tuple[int, int]:
        def skip(_: str, reason: PermanentError) -> None:
            self._say.warning("Left out of the sweep: %s", reason.message)

        listed = taken = 0
        listing = list_media(self._desk.prefix, self._desk.select, settings().s3, skipped=skip)
        for _, outcome in in_parallel(self._take, listing, LOOKS):
            listed += 1
            taken += outcome == "taken"
            if self._stop.is_set():
                break
        return listed, taken

    def _take(self, found: Listed) -> str:
        while self._desk.swept_waiting > AHEAD * self._desk.in_flight and not self._stop.wait(0.2):
            pass
        return "" if self._stop.is_set() else self._desk.take_swept(found)
