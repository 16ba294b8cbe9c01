"""How far a backfill is: counts, rate, time left and cost, for the Prefect UI and for a terminal."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows import summary
from flows.backfill.report import BackfillReport, duration
from flows.progress import decoration
from tasks.core.errors import PermanentError
from tasks.core.schema import AnalyzeReport
from tasks.records.lookup import skipped

UPDATE_S = 5.0
"""Pause between two updates of the artifact."""

MOST_ROWS = 1000
"""Rows of the failure table; the store's quarantine holds them all."""

Listener = Callable[[AnalyzeReport, str, int, int | None], None]
"""Called with a report, a line about the whole, objects that are through, and objects in all once they are counted."""

listener: ContextVar[Listener | None] = ContextVar("backfill_listener", default=None)
"""Set by a command line that prints reports as they come; flows run in its context."""


class Tally:
    """Counts reports. Made inside a flow run."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.counts: Counter[str] = Counter()
        self.listed = 0
        self.skipped = 0
        self.bytes = 0
        self.cost_usd = 0.0
        self.total: int | None = None
        """Objects that the listing will give, once they are counted."""
        self.failures: list[dict[str, Any]] = []
        self._started = time.monotonic()
        self._worked = 0.0
        self._shown = self._started
        self._lock = threading.Lock()
        artifact = create_progress_artifact(progress=0.0, key="backfill-progress", description=summary.plain(prefix))
        self._artifact: UUID = artifact  # type: ignore[assignment]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def settled(self) -> int:
        """Objects that are through, whatever became of them."""
        return sum(self.counts.values())

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the objects that took work; None until two of them are through and all are counted."""
        worked = self.settled - self.counts["cached"]
        if self.total is None or worked < 2:
            return None
        return max(0, self.total - self.settled) * self.seconds / worked

    def take(self, size: int) -> None:
        """Counts an object that was listed."""
        self.listed += 1
        self.bytes += size

    def skip(self, source: str, reason: PermanentError) -> None:
        """Counts and names what cannot be listed."""
        report = skipped(source, reason)
        with self._lock:
            self.skipped += 1
            self._note(report)
        if heard := listener.get():
            heard(report, self.line(), self.settled, self.total)

    def count(self, report: AnalyzeReport) -> None:
        """Counts what became of an object."""
        with self._lock:
            self.counts[report.status] += 1
            self.cost_usd += report.cost_usd
            self._note(report)
        if heard := listener.get():
            heard(report, self.line(), self.settled, self.total)
        if time.monotonic() - self._shown > UPDATE_S:
            self._shown = time.monotonic()
            with decoration():
                update_progress_artifact(self._artifact, progress=self._percent(), description=self.line())

    def _note(self, report: AnalyzeReport) -> None:
        if report.error and len(self.failures) < MOST_ROWS:
            self.failures.append({"source": report.source, "status": report.status, **report.error})

    def hand_over(self, count: int) -> None:
        """Counts objects that deployment runs were given."""
        with self._lock:
            self.counts["handed over"] += count

    def recount(self, report: AnalyzeReport) -> None:
        """Takes a failure back: the object is tried again."""
        with self._lock:
            self.counts[report.status] -= 1
            self.failures = [row for row in self.failures if row["source"] != report.source]

    def line(self) -> str:
        """One line for a person."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count) or "nothing yet"
        total = f"{self.total}" if self.total is not None else f"{self.listed}+"
        left = f", about {duration(self.seconds_left)} left" if self.seconds_left else ""
        rate = self.settled / max(self.seconds, 1e-3)
        return f"{self.settled} of {total}: {counts}; {rate:.2f} media/s{left}; {self.cost_usd:.4f} USD"

    def finish(self, store: str, notices: list[str]) -> BackfillReport:
        """Says 100%, and leaves the summary and the table of failures with the run."""
        report = BackfillReport(
            prefix=self.prefix,
            store=store,
            listed=self.listed,
            bytes=self.bytes,
            done=self.counts["done"],
            cached=self.counts["cached"],
            quarantined=self.counts["quarantined"],
            failed=self.counts["failed"],
            skipped=self.skipped,
            handed_over=self.counts["handed over"],
            seconds=round(self.seconds, 3),
            cost_usd=round(self.cost_usd, 6),
            notices=notices,
        )
        update_progress_artifact(self._artifact, progress=100.0, description=self.line())
        create_markdown_artifact(summary.backfill(report), key="backfill-summary", description="What the backfill did")
        if self.failures:
            create_table_artifact(self.failures, key="backfill-failures", description="Sources that gave no result")
        return report

    def _percent(self) -> float:
        return min(99.0, 100.0 * self.settled / max(1, self.total or self.listed))
