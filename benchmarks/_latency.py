"""What a load test's requests come to: latency, queueing, success, throughput, cost, and where the time goes.

Pure: from the record of each request, kept as JSON lines, to figures. Times are Unix seconds, lengths seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks._results import median, percentile
from tasks.core.schema import Record

DONE = "done"
SHARES = {"median": 0.5, "p95": 0.95, "p99": 0.99}

VCPU_HOUR_USD = 0.04048 + 2 * 0.004445
"""AWS Fargate, us-east-1: a vCPU with 2 GB for an hour, as in tasks/core/cost.py."""


class Span(Record):
    """A stage of one request, from its first task's start to its last one's end."""

    stage: str
    start: float
    end: float
    cpu_s: float = 0.0
    queue_s: float = 0.0
    """From the moment when its inputs were there to its start."""


class Request(Record):
    """One request. A request that never started or ended lacks those times."""

    number: int
    arrived: float
    """When the pattern wanted it; in a closed loop, when its user sent it."""
    accepted: float | None = None
    """When the API had taken it."""
    taken: float | None = None
    """When what executes flow runs took it from the queue (Pending)."""
    started: float | None = None
    """When the flow began (Running)."""
    ended: float | None = None
    status: str
    """`done`, or what became of it instead: cached, quarantined, failed, crashed, wrong, unfinished, refused, ..."""
    reason: str = ""
    stages: tuple[Span, ...] = ()
    media_s: float = 0.0
    cost_usd: float = 0.0
    """CPU seconds of its stages at list prices."""

    @property
    def latency_s(self) -> float | None:
        return None if self.ended is None else self.ended - self.arrived

    @property
    def queue_s(self) -> float | None:
        return None if self.taken is None else self.taken - self.arrived

    @property
    def start_up_s(self) -> float | None:
        return None if self.started is None or self.taken is None else self.started - self.taken

    @property
    def run_s(self) -> float | None:
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def between_s(self) -> float:
        """Seconds of the run during which none of its stages ran: engine, scheduler, network."""
        if self.run_s is None:
            return 0.0
        return self.run_s - _covered((span.start, span.end) for span in self.stages)


class Level(Record):
    """One workload, as it was offered and as it went."""

    label: str
    pattern: str
    target: str
    regime: str
    concurrency: int
    rate: float
    seed: int
    cores: int
    cpu_s: dict[str, float]
    """CPU seconds during the level, by the part of the system that used them."""
    requests: list[Request]

    @property
    def ended(self) -> list[Request]:
        return [request for request in self.requests if request.ended is not None]

    @property
    def done(self) -> list[Request]:
        return [request for request in self.requests if request.status == DONE]

    @property
    def wall_s(self) -> float:
        """From the first arrival to the last end."""
        return max((r.ended or r.arrived for r in self.requests), default=0.0) - min(r.arrived for r in self.requests)

    @property
    def throughput(self) -> float:
        """Successful requests per second, from the first arrival to the last end."""
        return len(self.done) / self.wall_s if self.wall_s > 0 else 0.0


def write_levels(path: Path, levels: Iterable[Level]) -> None:
    """Adds one line for each level to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(level.model_dump_json() + "\n" for level in levels)


def read_levels(path: Path) -> list[Level]:
    """The levels that `write_levels` kept. Raises pydantic's ValidationError for a file of another kind."""
    return [Level.model_validate_json(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def summary(level: Level) -> dict[str, float | int | str | None]:
    """The figures of one level. Percentiles are over the requests that ended, whatever they ended as."""
    found: dict[str, float | int | str | None] = {
        "level": level.label,
        "requests": len(level.requests),
        "success %": 100 * len(level.done) / len(level.requests),
        "done/s": level.throughput,
    }
    for kind, values in (
        ("latency", [r.latency_s for r in level.ended]),
        ("queue", [r.queue_s for r in level.ended]),
        ("start-up", [r.start_up_s for r in level.ended]),
        ("run", [r.run_s for r in level.ended]),
    ):
        known = [value for value in values if value is not None]
        for name, share in SHARES.items() if kind == "latency" else [("median", 0.5)]:
            found[f"{kind} {name} s"] = percentile(known, share) if known else None
    hours = sum(request.media_s for request in level.done) / 3600
    found["CPU s/request"] = sum(level.cpu_s.values()) / len(level.requests)
    if hours:
        machine = level.wall_s * level.cores * VCPU_HOUR_USD / 3600
        found["stages $/media hour"] = sum(request.cost_usd for request in level.done) / hours
        found["machine $/media hour"] = machine / hours
    return found


def stages(level: Level) -> dict[str, dict[str, float]]:
    """Per stage, in order of their beginning: medians of start after the run's start, wall, queue and CPU seconds."""
    spans: dict[str, list[tuple[float, Span]]] = {}
    for request in level.done:
        for span in request.stages:
            spans.setdefault(span.stage, []).append((span.start - (request.started or span.start), span))
    rows = {
        name: {
            "starts at s": median(offset for offset, _ in found),
            "wall s": median(span.end - span.start for _, span in found),
            "wall p95 s": percentile((span.end - span.start for _, span in found), 0.95),
            "queue s": median(span.queue_s for _, span in found),
            "CPU s": median(span.cpu_s for _, span in found),
        }
        for name, found in spans.items()
    }
    return dict(sorted(rows.items(), key=lambda item: item[1]["starts at s"]))


def in_system(level: Level) -> list[tuple[float, int, int]]:
    """(seconds since the first arrival, requests that wait, requests that were taken), at each change."""
    beginning = min(request.arrived for request in level.requests)
    changes: list[tuple[float, int, int]] = []
    for request in level.requests:
        changes.append((request.arrived - beginning, 1, 0))
        if request.taken is not None:
            changes.append((request.taken - beginning, -1, 1))
        if request.ended is not None:
            changes.append((request.ended - beginning, *((-1, 0) if request.taken is None else (0, -1))))
    found, waiting, running = [], 0, 0
    for at, waits, runs in sorted(changes):
        waiting, running = waiting + waits, running + runs
        found.append((at, waiting, running))
    return found


def growth(levels: Sequence[Level]) -> list[float | None]:
    """Exponent of each level's p95 latency over concurrency, against the level before: 1 is linear, 0 is flat.

    log(p95 / previous p95) / log(concurrency / previous concurrency); None for the first.
    """
    return [None, *(_exponent(before, after) for before, after in pairwise(levels))]


def p95(level: Level) -> float:
    """95th percentile of latency over the requests that ended, seconds. Raises ValueError when none did."""
    return percentile([r.latency_s for r in level.requests if r.latency_s is not None], 0.95)


def failures(levels: Iterable[Level]) -> list[tuple[str, str, str, int]]:
    """(level, status, reason, requests), most frequent first."""
    counted = Counter(
        (level.label, request.status, request.reason)
        for level in levels
        for request in level.requests
        if request.status != DONE
    )
    return [(*what, count) for what, count in counted.most_common()]


def _exponent(before: Level, after: Level) -> float:
    return math.log(p95(after) / p95(before)) / math.log(after.concurrency / before.concurrency)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
