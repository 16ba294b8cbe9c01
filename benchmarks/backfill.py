"""What an object of a backfill costs beside its stages' own work, from 10 to 1,000 tiny objects; and memory.

Every object is a video of four frames (2 kB), nine task runs and one flow run on a warm engine, from a folder into a
folder store. Overhead is the wall time that the workers' stages do not explain: wall - (CPU seconds in stages) / cores,
divided by the objects. It holds everything else: listing, fetch, probe, Prefect, Dask, store, start and end of the run.
Every object must have its own result before a figure is printed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._corpus import tiny
from benchmarks._results import Plot, Table, parser, publish

IN_THE_FLOW = ("fetch", "probe")
"""Stages that run in the flow's process."""

OPTIONS = ["transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320"]


NOTE = "`flow MB grown`: resident memory of the flow's process, scheduler included, after the run less before it."


def main(argv: Sequence[str]) -> None:
    """Runs each count on one warm engine and prints a table."""
    options = parser("backfill", __doc__)
    options.add_argument("--objects", type=int, nargs="+", default=[10, 100, 1000], help="objects of each run")
    options.add_argument("--in-flight", type=int, help="media at the same time; default: the flow's")
    arguments = options.parse_args(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.run import engine

    rows = []
    with tempfile.TemporaryDirectory() as folder, engine():
        measure(Path(folder) / "warm", 4, arguments.in_flight)
        for count in arguments.objects:
            rows.append(measure(Path(folder) / str(count), count, arguments.in_flight))
            print(f"{count} objects: {rows[-1]['wall s']} s", file=sys.stderr, flush=True)
    plots = [Plot("objects", ["overhead s/object"], log_x=True), Plot("objects", ["flow MB grown"], log_x=True)]
    publish(arguments, "backfill", __doc__, [Table("Tiny objects", rows, NOTE, plots)])


def measure(folder: Path, count: int, in_flight: int | None) -> dict[str, Any]:
    """Times one backfill. Raises AssertionError unless every object has its own result."""
    from flows.backfill_prefix import backfill_prefix
    from tasks.core.options import parse_options
    from tasks.results import read_result
    from tasks.store import open_store
    from tasks.threads import available_cores

    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(count):
        (source / f"{number:05d}.mp4").write_bytes(tiny(number))
    root = str(folder / "store")
    before, cpu = _memory(), processor_seconds()
    started = time.perf_counter()
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
        "flow MB grown": round(_memory() - before, 1),
    }


def _memory() -> float:
    """Resident memory of this process (flow and scheduler), MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_seconds() -> dict[str, float]:
    """CPU seconds of this process and of its children by what they are."""
    spent = {"flow": time.process_time(), "server": 0.0, "workers": 0.0}
    ticks = os.sysconf("SC_CLK_TCK")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\t{os.getpid()}\n" not in (process / "status").read_text():
                continue
            command = (process / "cmdline").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        name = "server" if b"embedded_server" in command else "workers"
        spent[name] += sum(int(fields[i]) for i in (11, 12, 13, 14)) / ticks
    return spent
