"""Measured costs of stages, task runs and flow runs: what the simulation is driven by, and the file that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks._results import FOLDER
from tasks.core.schema import StageTiming

FILE = FOLDER / "stage_costs.json"

SORTS = {"detections": "detection", "language": "speech", "transcript": "speech"} | dict.fromkeys(
    ("fetch", "probe", "audio", "segments", "frames", "clips"), "media"
)
"""Sort of work by stage, as contention was measured; all else is Python."""

GPU_STAGES = frozenset({"detections", "language", "transcript"})


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(Record):
    """fixed + slope * x, neither below 0."""

    fixed: float
    slope: float

    def at(self, x: float) -> float:
        return self.fixed + self.slope * x


class StageCost(Record):
    """One task run of a stage over the seconds of media that it is given."""

    wall_s: Line
    share: float
    """CPU seconds per second of it."""
    bytes_in: Line
    bytes_out: Line
    requests: float
    """To the store."""
    spread: tuple[float, ...]
    """Measured by the line's: what single runs differ by."""


class Kind(Record):
    """One sort of media."""

    stages: dict[str, StageCost]
    bytes: Line
    frames_run_s: float
    """Seconds of media that one task run samples and detects at most; 0: no pictures."""
    speech_share: float
    """Part of the media that lies in windows of speech."""
    speech_run_s: float
    """Seconds of windows that one task run transcribes at most."""

    def runs(self, stage: str, seconds: float) -> int:
        """Task runs of a stage for a media of this length."""
        if stage in ("frames", "detections"):
            return math.ceil(seconds / self.frames_run_s) if self.frames_run_s else 0
        if stage == "transcript":
            return math.ceil(self.speech_share * seconds / self.speech_run_s)
        return 1


class Overhead(Record):
    """What Prefect, Dask and the store add to the bodies of stages. CPU seconds where it says cpu."""

    backfill_flow_cpu_s: float
    backfill_server_cpu_s: float
    flow_run_flow_cpu_s: float
    flow_run_server_cpu_s: float
    """While the flow run waits for it."""
    flow_run_server_later_cpu_s: float
    """While nobody waits for it: events, logs."""
    flow_run_wait_s: float
    """Of a flow run by itself, between its ends and its tasks: neither the flow's nor the server's CPU."""
    flow_run_requests: float
    """To the store, by the flow."""
    task_run_flow_cpu_s: float
    task_run_server_cpu_s: float
    task_run_worker_s: float
    """A worker is held so much longer than the stage's body takes."""
    task_run_worker_share: float
    """CPU seconds per second of it."""


class Costs(Record):
    """Costs of processes with `threads` threads each, by kind of media."""

    threads: int
    kinds: dict[str, Kind]
    overhead: Overhead
    crowded: dict[str, float] = {}
    """CPU time by sort of work on a machine where more wants to run than it has cores, over that of the same alone."""


class Seen(Record):
    """One backfill, as it was predicted or as it was."""

    wall_s: float
    busy: float
    """Part of the time that workers were held by task runs."""
    wait_s: float
    """Mean time that a task run with its inputs ready waited for a worker (publishing left out)."""


class Validation(Record):
    """One backfill, predicted and run."""

    workers: int
    mix: str
    predicted: Seen
    """Means over seeds."""
    range_s: tuple[float, float]
    """Shortest and longest of them: how runs differ from their line, and by that who comes first."""
    measured: Seen


class StageCosts(Record):
    """The file."""

    date: str
    machine: dict[str, str]
    options: list[str]
    cores: int
    gpu: bool
    """GPU-tagged stages were measured on a GPU; else on a CPU."""
    start_s: float
    """From nothing to a cluster whose models are loaded."""
    slowdown: dict[str, dict[str, float]]
    by_threads: list[Costs]
    validations: list[Validation] = []

    def with_threads(self, threads: int) -> Costs:
        """The costs of processes with so many threads. Raises LookupError where that was not measured."""
        for costs in self.by_threads:
            if costs.threads == threads:
                return costs
        measured = ", ".join(str(costs.threads) for costs in self.by_threads)
        raise LookupError(f"no stage costs with {threads} threads per process (measured: {measured})")


def load(path: Path = FILE) -> StageCosts:
    """The file's costs. Raises SystemExit with what to do where there is none."""
    if not path.is_file():
        raise SystemExit(f"{path.name} is missing: python -m benchmarks simulate calibrate")
    return StageCosts.model_validate_json(path.read_text(encoding="utf-8"))


def save(costs: StageCosts, path: Path = FILE) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(costs.model_dump_json(indent=1) + "\n", encoding="utf-8")


class Sample(Record):
    """One media that was analysed alone: its kind, length and the timings of its result."""

    kind: str
    seconds: float
    bytes: int
    frames_run_s: float
    speech_s: float
    speech_run_s: float
    timing: dict[str, StageTiming]
    publish_s: float
    """Time that its publishing held a worker; the result's own timing ends before the commit."""


def fit_kind(samples: Sequence[Sample], overhead: Overhead, requests: Mapping[str, float]) -> Kind:
    """One line per stage through all samples of a kind; publishing is its worker's time less a task run's overhead.

    `requests` to the store are those of a task run, by stage.
    """
    names = dict.fromkeys(name for sample in samples for name in sample.timing)
    lengths = [sample.seconds for sample in samples]
    return Kind(
        stages={name: _stage(name, samples, overhead, requests.get(name, 0.0)) for name in names},
        bytes=fit_line(lengths, [sample.bytes for sample in samples]),
        frames_run_s=samples[0].frames_run_s,
        speech_share=sum(sample.speech_s for sample in samples) / sum(lengths),
        speech_run_s=samples[0].speech_run_s,
    )


def _stage(name: str, samples: Iterable[Sample], overhead: Overhead, requests: float) -> StageCost:
    seconds, walls, cpu_s, read, written = [], [], 0.0, [], []
    for sample in samples:
        timing = sample.timing.get(name)
        if timing is None:
            continue
        runs = max(1, timing.runs)
        seconds.append(sample.seconds / runs)
        body_s = max(0.0, sample.publish_s - overhead.task_run_worker_s) if name == "publish" else timing.wall_s / runs
        walls.append(body_s)
        cpu_s += overhead.task_run_worker_share * body_s if name == "publish" else timing.cpu_s / runs
        read.append(timing.bytes_in / runs)
        written.append(timing.bytes_out / runs)
    line = fit_line(seconds, walls)
    return StageCost(
        wall_s=line,
        share=cpu_s / sum(walls) if sum(walls) else 1.0,
        bytes_in=fit_line(seconds, read),
        bytes_out=fit_line(seconds, written),
        requests=requests,
        spread=tuple(wall / line.at(x) for x, wall in zip(seconds, walls, strict=True) if line.at(x) > 0) or (1.0,),
    )


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Least squares with neither coefficient below 0."""
    [fixed, slope] = fit([[1.0, value] for value in x], y)
    return Line(fixed=fixed, slope=slope)


def fit(rows: Sequence[Sequence[float]], y: Sequence[float]) -> list[float]:
    """Coefficients of least squares, none below 0."""
    import numpy as np
    from scipy.optimize import nnls

    found, _ = nnls(np.array(rows, float), np.array(y, float))
    return [float(value) for value in found]


def sort_of(stage: str) -> str:
    return SORTS.get(stage, "python")


def check_slowdown(slowdown: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The same with nothing below 1: what a neighbour speeds up is noise."""
    return {a: {b: max(1.0, factor) for b, factor in row.items()} for a, row in slowdown.items()}
