"""Backfills in a process of their own, with what each cost: wall and CPU time by process, task runs, store requests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks._stage_costs import Record, Sample
from benchmarks.backfill import settled_cpu

REQUESTS = ("read", "size", "write", "commit", "put", "local", "scan", "delete")
"""Methods of a store that are one request to a bucket, or nearly."""


class Asked(Record):
    """One backfill, in which no media share a run: a folder of media named `NUMBER KIND SECONDS.suffix`."""

    name: str
    folder: str
    options: list[str]
    in_flight: int | None = None


class Spec(Record):
    """What a process is to measure."""

    workers: int
    threads: int | None
    """Threads of each worker process; None: as many as the local cluster gives it."""
    warm: Asked
    asked: list[Asked]


class TaskSpan(Record):
    """When a task run held its worker, Unix time."""

    name: str
    worker: str
    start: float
    stop: float


class Answer(Record):
    """One backfill as it was."""

    name: str
    wall_s: float
    cpu_s: dict[str, float]
    """By process: flow, server, workers."""
    tasks: list[TaskSpan]
    """In order of their starts."""
    media: list[Sample]
    """In order of the listing; `publish_s` is only right where one media was in flight at a time."""
    requests: dict[str, int]
    """To the store, by the name of the task that a worker ran; "" is the flow."""


class Answers(Record):
    start_s: float
    """From the start of the process until every worker had its models."""
    answers: list[Answer]


def measure(spec: Spec, folder: Path) -> Answers:
    """Runs a spec in a fresh Python process. Raises CalledProcessError when it fails."""
    given, taken = folder / f"spec-{spec.workers}-{spec.threads}.json", folder / f"answers-{time.time_ns()}.json"
    given.write_text(spec.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks", "simulate", "measure", str(given), str(taken)]
    subprocess.run(command, check=True)
    return Answers.model_validate_json(taken.read_text(encoding="utf-8"))


def run_spec(given: Path, taken: Path) -> None:
    """The fresh process: one engine, a backfill to warm it up, then those that were asked for."""
    import os

    spec = Spec.model_validate_json(given.read_text(encoding="utf-8"))
    os.environ["REELFLOW_WORKERS"] = str(spec.workers)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.runtime import local_cluster
    from flows.runtime.run import engine

    started = time.monotonic()
    cores = None if spec.threads is None else spec.threads * spec.workers
    pretended = patch.object(local_cluster, "available_cores", return_value=cores) if cores else nullcontext()
    store = taken.parent / f"stores-{taken.stem}"
    with pretended, engine():
        _warm_up(spec, store / "warm")
        start_s = time.monotonic() - started
        answers = [_answer(asked, store / str(number)) for number, asked in enumerate(spec.asked)]
    taken.write_text(Answers(start_s=start_s, answers=answers).model_dump_json(), encoding="utf-8")


def _warm_up(spec: Spec, store: Path) -> None:
    """Backfills until each worker has run each network. Raises AssertionError after five."""
    from flows.runtime.dask_client import connect, scheduler_address

    client = connect(scheduler_address())
    client.get_task_stream()
    client.run(count_requests)
    count_requests()
    seen: set[tuple[str, str]] = set()
    networks = {"detect_objects", "transcribe", "detect_language"}
    for number in range(5):
        seen |= {(span.worker, span.name) for span in _answer(spec.warm, store / str(number)).tasks}
        if sum(name in networks for _, name in seen) == spec.workers * len(networks):
            return
    raise AssertionError(f"after five backfills some worker has not run every network: {seen}")


def _answer(asked: Asked, store: Path) -> Answer:
    from flows.backfill_prefix import backfill_prefix
    from flows.runtime.dask_client import connect, scheduler_address
    from tasks.core.options import parse_options

    client = connect(scheduler_address())
    options = parse_options(asked.options)
    count = len(list(Path(asked.folder).iterdir()))
    asked_before = _all_requests(client)
    before, since = settled_cpu(), time.time()
    started = time.perf_counter()
    state: Any = backfill_prefix(
        prefix=asked.folder,
        store=str(store),
        options=options,
        in_flight=asked.in_flight,
        together=1,
        return_state=True,
    )
    wall_s = time.perf_counter() - started
    report = state.result(_sync=True)
    assert (report["done"], report["failed"]) == (count, 0), report
    tasks = _spans(client.get_task_stream(start=since))
    cpu_s = {name: seconds - before[name] for name, seconds in settled_cpu().items()}
    requested = _all_requests(client) - asked_before
    media = _media(str(store), options, [span for span in tasks if span.name == "publish_result"])
    assert len(media) == count, f"{len(media)} results of {count} objects"
    return Answer(
        name=asked.name,
        wall_s=wall_s,
        cpu_s=cpu_s,
        tasks=tasks,
        media=media,
        requests=dict(requested),
    )


def _spans(records: Sequence[dict[str, Any]]) -> list[TaskSpan]:
    spans = []
    for record in records:
        name, _, _ = str(record["key"]).partition("-")
        for one in record["startstops"]:
            if one["action"] == "compute":
                spans.append(TaskSpan(name=name, worker=str(record["worker"]), start=one["start"], stop=one["stop"]))
    return sorted(spans, key=lambda span: span.start)


def _media(root: str, options: Any, published: Sequence[TaskSpan]) -> list[Sample]:
    from tasks.core.frame_plan import plan_batches
    from tasks.records import artifacts
    from tasks.records.results import read_result
    from tasks.stages.speech import plan_windows
    from tasks.store import open_store

    store = open_store(root)
    found = [read_result(store, path.split("/")[1]) for path in store.list("media") if path.endswith("/result.json")]
    results = sorted((one[0] for one in found if one), key=lambda result: result.source)
    samples = []
    for result, span in zip(results, published, strict=True):
        key = result.artifacts["segments"].rsplit("/", 1)[1]
        segments = artifacts.find(store, result.media_id, "segments", key)
        assert segments is not None, f"no segments of {result.source}"
        heard = plan_windows(segments, result.media, options.transcript) if "transcript" in result.models else []
        frames_run_s = 0.0
        if result.media.video is not None:
            endless = result.media.video.model_copy(update={"duration_s": 10_000.0})
            batches = plan_batches(result.media.model_copy(update={"video": endless}), options.frames)
            frames_run_s = batches[0].count / options.frames.fps
        samples.append(
            Sample(
                kind=Path(result.source).name.split()[1],
                seconds=result.media.duration_s,
                bytes=result.media.bytes,
                frames_run_s=frames_run_s,
                speech_s=sum(window.end - window.start for batch in heard for window in batch),
                speech_run_s=options.transcript.window_s * options.transcript.batch_size,
                timing=result.timing,
                publish_s=span.stop - span.start,
            )
        )
    return samples


_requests: Counter[str] = Counter()


def count_requests() -> None:
    """Counts what this process asks of folder stores from now on."""
    from tasks.store.folder import FolderStore

    def counted(method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            _requests[_task_name()] += 1
            return method(*arguments, **named)

        return call

    for name in REQUESTS:
        setattr(FolderStore, name, counted(getattr(FolderStore, name)))


def requests() -> Counter[str]:
    """How many there were, by the name of the task that this process ran; "" where it is no worker."""
    return _requests.copy()


def _all_requests(client: Any) -> Counter[str]:
    return sum(client.run(requests).values(), requests())


def _task_name() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().get_current_task()).partition("-")[0]
    except ValueError:
        return ""
