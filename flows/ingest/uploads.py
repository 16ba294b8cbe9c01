"""Windows and rows go from the spools to the store: several at a time, tried again for ever, the oldest first."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.core.errors import ReelflowError
from tasks.core.live.names import WindowRecord
from tasks.core.live.spool import Spool
from tasks.records.recordings import put_row, put_window
from tasks.store import Store

PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""After the n-th failure in a row all senders wait so long, doubled each time, with jitter."""


@dataclass(order=True)
class _Job:
    begins: float
    sequence: int
    record: WindowRecord = field(compare=False)
    spool: Spool = field(compare=False)


class Uploads:
    """A few threads that send what is submitted, the oldest first."""

    def __init__(self, store: Store, workers: int, sent: Callable[[WindowRecord], None], say: Callable[[str], None]):
        self._store, self._sent, self._say = store, sent, say
        self._jobs: list[_Job] = []
        self._busy = 0
        self._changed = threading.Condition()
        self._ended = False
        self._failures = 0
        self._resume_at = 0.0
        self.count = self.bytes = 0
        self._threads = [threading.Thread(target=self._work, name=f"upload-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def refused(self) -> bool:
        """Did the last attempt fail?"""
        return self._failures > 0

    def submit(self, record: WindowRecord, spool: Spool) -> None:
        with self._changed:
            heapq.heappush(self._jobs, _Job(record.begins, record.sequence, record, spool))
            self._changed.notify()

    def send_rows(self, spool: Spool) -> bool:
        """Sends the rows of a spool that wait; did all of them arrive?"""
        for path, content in spool.rows():
            if self._failures and time.monotonic() < self._resume_at:
                return False
            try:
                put_row(self._store, path, content)
            except ReelflowError as error:
                self._failed(error)
                return False
            self._went_well()
            spool.row_sent(path, content)
        return True

    def drain(self, timeout_s: float | None = None) -> bool:
        """Waits until all that was submitted is sent; was it?"""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout_s)

    def end(self) -> None:
        """Ends the threads after what they are sending; the rest stays in the spools."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            again = False
            try:
                again = not self._send(job)
            finally:
                with self._changed:
                    self._busy -= 1
                    if again:
                        heapq.heappush(self._jobs, job)
                    self._changed.notify_all()

    def _next(self) -> _Job | None:
        with self._changed:
            while True:
                if self._ended:
                    return None
                wait = self._resume_at - time.monotonic() if self._failures else 0.0
                if self._jobs and wait <= 0:
                    self._busy += 1
                    return heapq.heappop(self._jobs)
                self._changed.wait(min(wait, 1.0) if self._jobs else None)

    def _send(self, job: _Job) -> bool:
        media = job.spool.claim(job.record)
        if media is None:
            return True  # it had to go
        try:
            put_window(self._store, job.record, media)
        except Exception as error:
            job.spool.give_back(job.record)
            self._failed(error)
            return False
        self._went_well()
        job.spool.sent(job.record)
        self.count += 1
        self.bytes += job.record.bytes
        self._sent(job.record)
        return True

    def _failed(self, error: Exception) -> None:
        with self._changed:
            first = self._failures == 0
            self._failures += 1
            pause = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(10, self._failures - 1))
            self._resume_at = time.monotonic() + pause * (0.5 + random.random() / 2)  # noqa: S311
        if first:
            text = error.message if isinstance(error, ReelflowError) else type(error).__name__
            self._say(f"The store takes nothing now; windows wait in the spool. {text}")

    def _went_well(self) -> None:
        with self._changed:
            failed, self._failures = self._failures, 0
            self._changed.notify_all()
        if failed:
            self._say("The store takes windows again.")
