"""What an object of a backfill costs beside its stages' own work, from 10 to 1,000 tiny objects; and memory.

Every object is a video of four frames (2 kB), on a warm engine, from a folder into a folder store; up to 16 share a
flow run and its five task runs. Overhead is the wall time that the workers' stages do not explain: wall - (CPU seconds
in stages) / cores, divided by the objects. It holds everything else: listing, fetch, Prefect, Dask, store, start and
end of the run.
Every object must have its own result before a figure is printed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._corpus import WITHOUT_SCENES, tiny
from benchmarks._cpu import processor_seconds
from benchmarks._results import Plot, Table, parser, publish

IN_THE_FLOW = ("fetch",)
"""Stages that run in the flow's process."""

WARM = 20
"""Objects before the first that are counted: each worker must have done each stage."""

SETTLED_S = 8.0
"""Longest wait for the server to be through with earlier runs."""

IDLE_CPU_S = 0.05
"""CPU seconds in half a second of a server that has nothing to do."""

OPTIONS = ["transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320", *WITHOUT_SCENES]


NOTE = "`flow MB grown`: resident memory of the flow's process, scheduler included, in each half of the run's time."


def main(argv: Sequence[str]) -> None:
    """Runs each count on one warm engine and prints a table."""
    options = parser("backfill", __doc__)
    options.add_argument("--objects", type=int, nargs="+", default=[10, 100, 1000], help="objects of each run")
    options.add_argument("--in-flight", type=int, help="media at the same time; default: the flow's")
    arguments = options.parse_args(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.runtime.run import engine

    rows = []
    with tempfile.TemporaryDirectory() as folder, engine():
        measure(Path(folder) / "warm", WARM, arguments.in_flight)
        for count in arguments.objects:
            rows.append(measure(Path(folder) / str(count), count, arguments.in_flight))
            print(f"{count} objects: {rows[-1]['wall s']} s", file=sys.stderr, flush=True)
    memory = ["flow MB grown, first half", "second half"]
    plots = [Plot("objects", ["overhead s/object"], log_x=True), Plot("objects", memory, log_x=True)]
    publish(arguments, "backfill", __doc__, [Table("Tiny objects", rows, NOTE, plots)])


def measure(folder: Path, count: int, in_flight: int | None) -> dict[str, Any]:
    """Times one backfill. Raises AssertionError unless every object has its own result."""
    from flows.backfill_prefix import backfill_prefix
    from tasks.core.options import parse_options
    from tasks.records.results import read_result
    from tasks.store import open_store
    from tasks.workers.threads import available_cores

    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(count):
        (source / f"{number:05d}.mp4").write_bytes(tiny(number))
    root = str(folder / "store")
    cpu = settled_cpu()
    started = time.perf_counter()
    with _Memory() as memory:
        state: Any = backfill_prefix(
            prefix=str(source), store=root, options=parse_options(OPTIONS), in_flight=in_flight, return_state=True
        )
    wall_s = time.perf_counter() - started
    spent = {name: seconds - cpu.get(name, 0.0) for name, seconds in processor_seconds().items()}
    report = state.result(_sync=True)
    assert (report["done"], report["failed"]) == (count, 0), report
    store = open_store(root)
    results = [
        found[0]
        for path in store.list("media")
        if path.endswith("/result.json") and (found := read_result(store, path.split("/")[1]))
    ]
    assert len(results) == count, f"{len(results)} results of {count} objects"
    stages_s = sum(
        timing.cpu_s for result in results for name, timing in result.timing.items() if name not in IN_THE_FLOW
    )
    cores = available_cores()
    return {
        "objects": count,
        "wall s": round(wall_s, 1),
        "media/s": round(count / wall_s, 2),
        "workers' stages, CPU s/object": round(stages_s / count, 3),
        "overhead s/object": round((wall_s - stages_s / cores) / count, 3),
        **{f"{name} CPU s/object": round(seconds / count, 3) for name, seconds in spent.items()},
        "flow MB grown, first half": round(memory.first_half, 1),
        "second half": round(memory.second_half, 1),
    }


class _Memory:
    """Resident memory of this process (flow and scheduler), sampled during a block, MB."""

    def __enter__(self) -> _Memory:
        self._samples = [_resident()]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()
        self._samples.append(_resident())
        middle = self._samples[len(self._samples) // 2]
        self.first_half, self.second_half = middle - self._samples[0], self._samples[-1] - middle

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._samples.append(_resident())


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def settled_cpu() -> dict[str, float]:
    """processor_seconds(), once the server is through with what earlier runs have told it."""
    deadline = time.monotonic() + SETTLED_S
    before = processor_seconds()
    while True:
        time.sleep(0.5)
        now = processor_seconds()
        if now["server"] - before["server"] < IDLE_CPU_S or time.monotonic() > deadline:
            return now
        before = now
