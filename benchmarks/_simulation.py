"""The pipeline as a queueing model: media pass through flow processes, a Prefect server, workers and the link to S3.

The graph of a media is that of flows/analyze_media.py: fetch and probe, then sound and pictures side by side, then
publishing. A flow process has so many media in flight (flows/backfill/batch.py); its own work is done one piece at a
time, as Python does; probing is a child process, and no part of that. A task run waits for its inputs, then for a
worker that offers its resource, in order of submission. The server works on task runs behind everybody's back, and on
flow runs while these wait.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks._events import Loop, Machine, Process, Signal, Slowdown, Station, Totals, Work
from benchmarks._stage_costs import GPU_STAGES, Costs, StageCost, sort_of

NEAR = ("fetch", "probe")
"""Stages that the flow does itself, unless its workers are elsewhere."""


class Media(NamedTuple):
    kind: str
    seconds: float


@dataclass(frozen=True)
class Site:
    """What there is to work with: a flow process and its like, one Prefect server, workers."""

    cpu_workers: int
    gpu_workers: int = 0
    """0: the CPU workers take GPU-tagged tasks as well, as those of a local cluster do."""
    flows: int = 1
    in_flight: int = 8
    """Media of one flow process that are worked on at the same time."""
    cores: int = 0
    """Cores of the one host that everything runs on; 0: a core for each process, workers elsewhere."""
    packed: bool = True
    """Workers elsewhere have neighbours that do the same work, and slow each other down as was measured."""
    gpu_speed: float = 1.0
    """How many times faster GPU-tagged stages are than measured."""
    link_bytes_s: float = 0.0
    """What the link to S3 carries; 0: no link, files lie where they are used."""
    request_s: float = 0.0
    """What one request to S3 takes."""

    @property
    def lanes(self) -> int:
        """Media in flight, of all flow processes."""
        return self.flows * self.in_flight


class Snapshot(NamedTuple):
    time_s: float
    totals: dict[str, Totals]


@dataclass(frozen=True)
class Outcome:
    """A simulated run."""

    wall_s: float
    spans: list[tuple[float, float]]
    """Start and end of each media, in order of ends."""
    servers: dict[str, int]
    """Servers of each station."""
    snapshots: list[Snapshot]
    """At the start, at the marks that were asked for, and at the end."""

    def utilisation(self, first: int = 0, last: int = -1) -> dict[str, float]:
        """Busy part of each station between two snapshots."""
        low, high = self.snapshots[first], self.snapshots[last]
        busy_s = {name: totals.busy_s - low.totals[name].busy_s for name, totals in high.totals.items()}
        return {name: busy_s[name] / self.servers[name] / (high.time_s - low.time_s) for name in busy_s}

    def waits(self, first: int = 0, last: int = -1) -> dict[str, float]:
        """Mean seconds that a turn was waited for, by `station: label`, between two snapshots."""
        low, high = self.snapshots[first], self.snapshots[last]
        return {
            f"{name}: {label}": (totals.waited_s[label] - low.totals[name].waited_s.get(label, 0.0)) / count
            for name, totals in high.totals.items()
            for label, count in (totals.served - low.totals[name].served).items()
        }


def simulate(
    costs: Costs,
    site: Site,
    media: Iterable[Media],
    slowdown: Slowdown,
    *,
    seed: int = 1,
    marks: Sequence[int] = (),
) -> Outcome:
    """Media through a site; the same seed gives the same run. Snapshots are taken once `marks` media have ended."""
    return _Run(costs, site, media, slowdown, random.Random(seed), marks).outcome()


def demand(costs: Costs, site: Site, media: Media, slowdown: Slowdown) -> dict[str, float]:
    """Server-seconds that a media takes of each station: what bounds the throughput of any number of them."""
    run = _Run(costs, site, [], slowdown, None, ())
    found: defaultdict[str, float] = defaultdict(float)
    overhead = costs.overhead
    tasks = 0
    for stage in costs.kinds[media.kind].stages:
        for one in run.task_runs(media, stage):
            if stage in NEAR and not run.elsewhere:
                continue
            tasks += 1
            found[run.resource(stage)] += run.held_s(one)
            found["link"] += run.transfer_s(one.bytes)
    found["flow"] += run.python_s(overhead.flow_run_flow_cpu_s + tasks * overhead.task_run_flow_cpu_s)
    served_s = overhead.flow_run_server_cpu_s + overhead.flow_run_server_later_cpu_s
    found["server"] += run.python_s(served_s + tasks * overhead.task_run_server_cpu_s)
    return {name: seconds for name, seconds in found.items() if seconds}


class TaskRun(NamedTuple):
    """One task run of a stage: what it does on a worker, and what it moves."""

    stage: str
    body: Work
    bytes: float
    requests: float


Submission = Generator[Signal, None, list[Signal]]
"""Submits, and gives the signals of the ends."""


class _Run:
    def __init__(
        self,
        costs: Costs,
        site: Site,
        media: Iterable[Media],
        slowdown: Slowdown,
        chance: random.Random | None,
        marks: Sequence[int],
    ) -> None:
        self.elsewhere = site.cores == 0
        self._costs, self._site, self._slowdown, self._chance = costs, site, slowdown, chance
        self._media: Iterator[Media] = iter(media)
        self._marks = set(marks)
        self._loop = Loop()
        self._machine = None if self.elsewhere else Machine(self._loop, site.cores, slowdown, costs.crowded)
        self._flows = [Station(self._loop, 1) for _ in range(site.flows)]
        self._shared = {"server": Station(self._loop, 1), "cpu": Station(self._loop, site.cpu_workers)}
        if site.gpu_workers:
            self._shared["gpu"] = Station(self._loop, site.gpu_workers)
        if site.link_bytes_s:
            self._shared["link"] = Station(self._loop, 1)
        self._submitted = 0
        self._spans: list[tuple[float, float]] = []
        self._snapshots = [self._snapshot()]

    def outcome(self) -> Outcome:
        for flow in self._flows:
            self._loop.start(self._backfill(flow))
        self._loop.run()
        self._snapshots.append(self._snapshot())
        servers = {name: station.servers for name, station in self._shared.items()} | {"flow": len(self._flows)}
        wall_s = max((end for _, end in self._spans), default=0.0)
        return Outcome(wall_s, self._spans, servers, self._snapshots)

    def resource(self, stage: str) -> str:
        return "gpu" if stage in GPU_STAGES and self._site.gpu_workers else "cpu"

    def task_runs(self, media: Media, stage: str) -> list[TaskRun]:
        """The task runs of a stage, each with its part of the media."""
        kind = self._costs.kinds[media.kind]
        if stage not in kind.stages:
            return []
        count = kind.runs(stage, media.seconds)
        return [self._task_run(stage, kind.stages[stage], media.seconds / count) for _ in range(count)]

    def alone_s(self, work: Work) -> float:
        """Wall time of a piece of work, neighbours of its kind included where there are any."""
        if not (self.elsewhere and self._site.packed):
            return work.seconds
        cpu = min(1.0, work.share)
        return work.seconds * (1.0 + cpu * (self._slowdown[work.sort][work.sort] - 1.0))

    def python_s(self, seconds: float) -> float:
        return self.alone_s(_python(seconds))

    def transfer_s(self, size: float) -> float:
        return size / self._site.link_bytes_s if self._site.link_bytes_s else 0.0

    def held_s(self, one: TaskRun) -> float:
        """What a task run holds its worker for when nobody else wants the link."""
        requests_s = one.requests * self._site.request_s
        return self.alone_s(self._overhead) + self.alone_s(one.body) + requests_s + self.transfer_s(one.bytes)

    @property
    def _overhead(self) -> Work:
        overhead = self._costs.overhead
        return Work(overhead.task_run_worker_s, overhead.task_run_worker_share, "python")

    def _task_run(self, stage: str, cost: StageCost, seconds: float) -> TaskRun:
        factor = self._chance.choice(cost.spread) if self._chance else 1.0
        speed = self._site.gpu_speed if stage in GPU_STAGES else 1.0
        body = Work(cost.wall_s.at(seconds) * factor / speed, cost.share, sort_of(stage))
        moved = cost.bytes_in.at(seconds) + cost.bytes_out.at(seconds)
        return TaskRun(stage, body, moved, cost.requests)

    def _backfill(self, flow: Station) -> Process:
        overhead = self._costs.overhead
        yield from self._use(flow, "backfill", _python(overhead.backfill_flow_cpu_s))
        yield from self._use(self._shared["server"], "backfill", _python(overhead.backfill_server_cpu_s))
        for _ in range(self._site.in_flight):
            self._loop.start(self._lane(flow))

    def _lane(self, flow: Station) -> Process:
        for media in self._media:
            started = self._loop.now
            yield from self._flow_run(flow, media)
            self._spans.append((started, self._loop.now))
            if len(self._spans) in self._marks:
                self._snapshots.append(self._snapshot())

    def _flow_run(self, flow: Station, media: Media) -> Process:
        """What flows/analyze_media.py does, in its order."""
        yield from self._half(flow)
        for stage in NEAR:
            for one in self.task_runs(media, stage):
                if self.elsewhere:
                    yield from _all((yield from self._submit(flow, one, [])))
                else:
                    yield self._do(one.body)
        audio = yield from self._stage(flow, media, "audio", [])
        segments = yield from self._stage(flow, media, "segments", audio)
        frames = yield from self._stage(flow, media, "frames", [])
        boxes = []
        for one, needed in zip(self.task_runs(media, "detections"), frames, strict=False):
            boxes += yield from self._submit(flow, one, [needed])
        yield from _all(segments)
        clips = yield from self._stage(flow, media, "clips", [])
        language = yield from self._stage(flow, media, "language", [])
        said = yield from self._stage(flow, media, "transcript", language)
        yield from _all([*clips, *language, *said, *frames, *boxes])
        yield from _all((yield from self._stage(flow, media, "publish", [])))
        yield from self._half(flow)

    def _half(self, flow: Station) -> Process:
        """One of a flow run's two ends: half of what it costs beside its tasks."""
        overhead = self._costs.overhead
        yield from self._use(flow, "flow run", _python(overhead.flow_run_flow_cpu_s / 2))
        yield from self._use(self._shared["server"], "flow run", _python(overhead.flow_run_server_cpu_s / 2))
        self._tell(overhead.flow_run_server_later_cpu_s / 2)
        wait_s = overhead.flow_run_wait_s + overhead.flow_run_requests * self._site.request_s
        yield self._loop.sleep(wait_s / 2)

    def _stage(self, flow: Station, media: Media, stage: str, needs: list[Signal]) -> Submission:
        """Submits every task run of a stage; the signals of their ends."""
        ends = []
        for one in self.task_runs(media, stage):
            ends += yield from self._submit(flow, one, needs)
        return ends

    def _submit(self, flow: Station, one: TaskRun, needs: list[Signal]) -> Submission:
        yield from self._use(flow, "submit", _python(self._costs.overhead.task_run_flow_cpu_s))
        self._submitted += 1
        return [self._loop.start(self._work(one, needs, self._submitted))]

    def _work(self, one: TaskRun, needs: list[Signal], rank: int) -> Process:
        yield from _all(needs)
        workers = self._shared[self.resource(one.stage)]
        yield workers.take(one.stage, rank)
        yield self._do(self._overhead)
        yield self._do(one.body)
        if self._site.request_s:
            yield self._loop.sleep(one.requests * self._site.request_s)
        if self._site.link_bytes_s:
            link = self._shared["link"]
            yield link.take(one.stage)
            yield self._loop.sleep(self.transfer_s(one.bytes))
            link.leave()
        workers.leave()
        self._tell(self._costs.overhead.task_run_server_cpu_s)

    def _tell(self, seconds: float) -> None:
        """Gives the server something to do that nobody waits for."""
        self._loop.start(self._use(self._shared["server"], "events", _python(seconds)))

    def _use(self, station: Station, label: str, work: Work) -> Process:
        """A turn at a process of one core."""
        yield station.take(label)
        yield self._do(work)
        station.leave()

    def _do(self, work: Work) -> Signal:
        return self._machine.do(work) if self._machine else self._loop.sleep(self.alone_s(work))

    def _snapshot(self) -> Snapshot:
        totals = {name: station.totals() for name, station in self._shared.items()}
        totals["flow"] = _sum(flow.totals() for flow in self._flows)
        return Snapshot(self._loop.now, totals)


def _all(signals: Iterable[Signal]) -> Process:
    yield from signals


def _python(seconds: float) -> Work:
    return Work(seconds, 1.0, "python")


def _sum(totals: Iterable[Totals]) -> Totals:
    """Of stations that are alike."""
    busy_s = queued_s = 0.0
    served: Counter[str] = Counter()
    waited_s: defaultdict[str, float] = defaultdict(float)
    for one in totals:
        busy_s += one.busy_s
        queued_s += one.queued_s
        served += one.served
        for label, seconds in one.waited_s.items():
            waited_s[label] += seconds
    return Totals(busy_s, queued_s, served, waited_s)
