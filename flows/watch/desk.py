"""Where objects wait for their turn: each is taken once, given a flow run, analysed in this process, and reported.

What a store tells goes before what a sweep finds. The flow runs are made before anything else happens, so whoever told
of an object may forget it; what a watcher that dies leaves undone, the next sweep finds.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from flows.backfill.batch import analyze_one
from flows.watch.report import WatchReport, stamp
from flows.watch.rows import Row, Rows
from tasks.core.errors import ReelflowError, SourceChanged
from tasks.core.events.lag import Cameras
from tasks.core.events.locate import keys_below, locate
from tasks.core.events.notification import ObjectEvent, is_older
from tasks.core.events.shedding import Shedding, rates
from tasks.core.listing import Listed, Selection
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import AnalyzeReport, ModelInfo
from tasks.core.source_names import display_source
from tasks.records.lags import keep_lag
from tasks.records.lookup import failed, unexpected
from tasks.records.sources import recall
from tasks.settings import settings
from tasks.store import Store, own_objects

MOST_KNOWN: Final = 200_000
"""Objects that are remembered; one that is forgotten costs a look into the store when it is told of again."""

TRIES: Final = 3
"""Of an object that fails, with pauses between; then it waits for the next sweep."""

RETRY_S: Final = (2.0, 10.0)
MOST_PAUSE_S: Final = 3600.0
"""Pause of an object that fails again and again: doubled each time, up to this."""

Outcome = Literal["taken", "duplicate", "older", "gone", "elsewhere", "left out", "settled", "with another watcher"]

EVENTS, SWEEP = 0, 1


@dataclass
class Job:
    """One version of an object on its way."""

    found: Listed
    options: AnalyzeOptions
    level: int
    lane: int
    row: Row
    put: datetime
    received: datetime
    origin: str
    tries: int = 1
    begun: bool = False


@dataclass
class _Known:
    """What is remembered of an object: the version at hand, and the event that told of it."""

    version: str
    order: str | None
    job: Job | None = None
    """From when it waits for its turn until it is through."""
    failures: int = 0
    not_before: float = 0.0
    """Of time.monotonic: a sweep leaves what has failed alone until then."""


@dataclass
class Desk:
    """Takes objects in and works on `in_flight` of them at a time. Safe for threads."""

    prefix: str
    root: Store
    ladder: Sequence[AnalyzeOptions]
    models: dict[str, ModelInfo]
    select: Selection
    in_flight: int
    shedding: Shedding
    rows: Rows
    context: Context
    """That flow runs start in."""
    heard: Callable[[WatchReport], None]
    say: logging.Logger | logging.LoggerAdapter[Any]
    counts: Counter[str] = field(default_factory=Counter)
    cameras: Cameras = field(default_factory=Cameras)
    running: int = 0
    last_end: float = field(default_factory=time.monotonic)
    """Of time.monotonic: when something last went through, or there was nothing to do."""

    def __post_init__(self) -> None:
        self._ours = own_objects(self.root)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._claims: set[str] = set()
        self._lock = threading.Condition()
        self._queue: queue.PriorityQueue[tuple[int, int, Job | None]] = queue.PriorityQueue()
        self._serial = itertools.count()
        self._waiting = [0, 0]
        self._retries: list[tuple[float, int, Job]] = []
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"reelflow-watch-{n}", daemon=True) for n in range(self.in_flight)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float) -> None:
        """Begins nothing more, and waits for what has begun."""
        with self._lock:
            self._stopped = True
        for _ in self._threads:
            self._queue.put((-1, next(self._serial), None))
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def waiting(self) -> int:
        """Objects that have a run and have not begun."""
        return sum(self._waiting)

    @property
    def swept_waiting(self) -> int:
        """Those of them that a sweep has found."""
        return self._waiting[SWEEP]

    @property
    def idle(self) -> bool:
        """Is there nothing to do, now and later?"""
        with self._lock:
            return not (sum(self._waiting) or self.running or self._retries or self._claims)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def count(self, what: str, number: int = 1) -> None:
        """Counts something that happened."""
        with self._lock:
            self.counts[what] += number

    def take_event(self, event: ObjectEvent, received: datetime) -> Outcome:
        """Takes what a notification tells of; afterwards the object's run exists, or none is needed.

        Raises ReelflowError and what the Prefect API raises: nothing was taken then, and it may be told of again.
        """
        outcome = self._take_event(event, received)
        self.count(outcome)
        if outcome == "gone":
            self.say.info("%s is gone: nothing to analyse", display_source(event.uri))
        return outcome

    def _take_event(self, event: ObjectEvent, received: datetime) -> Outcome:
        keys = keys_below(event, self.prefix)
        if not keys:
            return "elsewhere"
        for key in keys:
            known = self._known.get(f"s3://{event.bucket}/{key}")
            if known and is_older(event.order, known.order):
                return "older"
        found = locate(event, self.prefix, settings().s3)
        if found is None:
            return "gone"
        if not found.bytes and found.source.endswith("/"):
            return "left out"
        put = event.time or datetime.fromtimestamp(found.modified, UTC)
        return self._take(found, EVENTS, put, received, event.origin, event.order)

    def take_swept(self, found: Listed) -> Outcome:
        """Takes what a listing has shown, where it is not settled. Raises as take_event."""
        now = datetime.now(UTC)
        outcome = self._take(found, SWEEP, datetime.fromtimestamp(found.modified, UTC), now, "sweep", None)
        if outcome in ("taken", "with another watcher"):
            self.count(f"{outcome} by sweep")
        return outcome

    def _take(
        self, found: Listed, lane: int, put: datetime, received: datetime, origin: str, order: str | None
    ) -> Outcome:
        if self._ours(found.source) or not self.select.takes(found):
            return "left out"
        with self._lock:
            self._lock.wait_for(lambda: found.source not in self._claims)
            known = self._known.get(found.source)
            failures = known.failures if known and known.version == found.version else 0
            if known and known.version == found.version:
                known.order = known.order if order is None or is_older(order, known.order) else order
                if not failures or known.job or (lane == SWEEP and time.monotonic() < known.not_before):
                    self._hurry(known.job, lane)
                    return "duplicate"
            self._claims.add(found.source)
        try:
            return self._claim(found, lane, put, received, origin, order, failures)
        finally:
            with self._lock:
                self._claims.discard(found.source)
                self._lock.notify_all()

    def _hurry(self, job: Job | None, lane: int) -> None:
        """What waits as found by a sweep goes before that, when the store tells of it."""
        if job is not None and not job.begun and lane < job.lane:
            self._waiting[job.lane] -= 1
            self._waiting[lane] += 1
            job.lane = lane
            self._queue.put((lane, next(self._serial), job))

    def _claim(
        self,
        found: Listed,
        lane: int,
        put: datetime,
        received: datetime,
        origin: str,
        order: str | None,
        failures: int,
    ) -> Outcome:
        asked, *less = self.ladder
        report = recall(self.root, found.source, found.version, asked, self.models, or_options=less)
        if report:
            self._remember(found, order)
            if lane == EVENTS:
                self._report(report, put, received, None, None)
            return "settled"
        level = self._level() if lane == EVENTS else 0
        row = self.rows.make(found, self.ladder[level])
        if row is None:
            return "with another watcher"
        self._remember(found, order, failures)
        self._queue_up(Job(found, self.ladder[level], level, lane, row, put, received, origin))
        return "taken"

    def _remember(self, found: Listed, order: str | None, failures: int = 0) -> None:
        with self._lock:
            self._known[found.source] = _Known(found.version, order, failures=failures)
            self._known.move_to_end(found.source)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def _queue_up(self, job: Job) -> None:
        with self._lock:
            if known := self._known.get(job.found.source):
                known.job = job
            self._waiting[job.lane] += 1
        self._queue.put((job.lane, next(self._serial), job))

    def _level(self) -> int:
        before, waiting = self.shedding.level, self._waiting[EVENTS] + self.running
        level = self.shedding.choose(waiting)
        if level != before:
            fps = self.ladder[level].frames.fps
            if level > before:
                self.say.warning(
                    "Behind: %d objects wait, about %.0f s of work; new ones are sampled at %g frames/s instead of %g "
                    "(rule: %s frames/s)",
                    *(waiting, self.shedding.wait_s(waiting), fps, self.ladder[0].frames.fps, rates(self.ladder)),
                )
            else:
                self.say.warning("Catching up: new objects are sampled at %g frames/s again", fps)
        return level

    def retry_due(self) -> None:
        """Gives what has failed another run, once its pause is over; call it now and then."""
        while True:
            with self._lock:
                if not self._retries or self._retries[0][0] > time.monotonic() or self._stopped:
                    return
                _, _, job = heapq.heappop(self._retries)
                self._claims.add(job.found.source)
            try:
                row = self.rows.make(job.found, job.options, job.row.attempt + 1)
                if row:
                    self._queue_up(replace(job, row=row, tries=job.tries + 1, begun=False))
            except Exception as error:
                self.say.warning("%s waits longer: %s", display_source(job.found.source), unexpected(error).message)
                with self._lock:
                    heapq.heappush(self._retries, (time.monotonic() + RETRY_S[-1], next(self._serial), job))
            finally:
                with self._lock:
                    self._claims.discard(job.found.source)
                    self._lock.notify_all()

    def _work(self) -> None:
        while True:
            _, _, job = self._queue.get()
            with self._lock:
                if job is None or self._stopped:
                    return
                if job.begun:
                    continue
                job.begun = True
                self._waiting[job.lane] -= 1
                self.running += 1
            try:
                self.context.copy().run(self._analyze, job)
            except Exception as error:
                self.say.error("%s: %s", display_source(job.found.source), unexpected(error).message)
            finally:
                with self._lock:
                    self.running -= 1
                    self.last_end = time.monotonic()

    def _analyze(self, job: Job) -> None:
        started, clock = datetime.now(UTC), time.monotonic()
        try:
            report = analyze_one(job.found.source, self.root.address, job.options, job.found.version, run=job.row.run)
        except ReelflowError as error:
            report = failed(job.found.source, error, clock)
        self.shedding.took(time.monotonic() - clock)
        committed = datetime.now(UTC)
        changed = (report.error or {}).get("code") == SourceChanged.code
        with self._lock:
            known = self._known.get(job.found.source)
            if known and known.job is job:
                known.job = None
            if report.status == "failed" or changed:
                if job.tries < TRIES and not self._stopped:
                    pause_s = RETRY_S[min(job.tries, len(RETRY_S)) - 1]
                    heapq.heappush(self._retries, (time.monotonic() + pause_s, next(self._serial), job))
                    self.say.warning("%s failed, tried again in %g s: %s", report.source, pause_s, report.error)
                    return
                if known and known.version == job.found.version:
                    known.failures += 1
                    known.not_before = time.monotonic() + min(MOST_PAUSE_S, 60.0 * 2 ** min(10, known.failures))
        if report.status == "done":
            self._keep_lag(job, report, started, committed)
        self._report(report, job.put, job.received, started, committed)

    def _keep_lag(self, job: Job, report: AnalyzeReport, started: datetime, committed: datetime) -> None:
        try:
            lag = keep_lag(
                self.root,
                report.media_id or "",
                source=job.found.source,
                put=job.put,
                received=job.received,
                started=started,
                committed=committed,
                origin=job.origin,
                attempt=job.row.attempt,
                level=job.level,
            )
        except ReelflowError as error:
            self.say.warning("The lag of %s is not kept: %s", report.source, error.message)
            return
        if lag:
            with self._lock:
                self.cameras.add(lag)

    def _report(
        self,
        report: AnalyzeReport,
        put: datetime,
        received: datetime,
        started: datetime | None,
        committed: datetime | None,
    ) -> None:
        told = WatchReport(
            **report.model_dump(),
            put=stamp(put),
            received=stamp(received),
            started=stamp(started) if started else None,
            committed=stamp(committed) if committed and report.status in ("done", "cached") else None,
        )
        with self._lock:
            self.counts[report.status] += 1
            self.heard(told)
