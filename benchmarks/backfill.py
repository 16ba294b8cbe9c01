"""What an object of a backfill costs beside its stages' own work, from 10 to 1,000 tiny objects; and memory.

Every object is a video of four frames (2 kB). Overhead is the wall time that the stages' own work does not explain:
wall - (CPU seconds in stages) / cores, divided by the objects. It holds everything else: listing, Prefect, Dask, store.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._corpus import tiny

OPTIONS = ["transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320"]


def main(argv: Sequence[str]) -> None:
    """Runs each count on one warm engine and prints a Markdown table (or JSON lines)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks backfill", description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 100, 1000], help="objects of each run")
    parser.add_argument("--in-flight", type=int, help="media at the same time; default: the flow's")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.run import engine

    rows = []
    with tempfile.TemporaryDirectory() as folder, engine():
        measure(Path(folder) / "warm", 4, arguments.in_flight)
        for count in arguments.objects:
            rows.append(measure(Path(folder) / str(count), count, arguments.in_flight))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        return
    columns = list(rows[0])
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in columns) + " |")


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
    before, cpu = _memory(), _cpu()
    started = time.perf_counter()
    state: Any = backfill_prefix(
        prefix=str(source), store=root, options=parse_options(OPTIONS), in_flight=in_flight, return_state=True
    )
    wall_s = time.perf_counter() - started
    spent = {name: seconds - cpu.get(name, 0.0) for name, seconds in _cpu().items()}
    report = state.result(_sync=True)
    assert (report["done"], report["failed"]) == (count, 0), report
    store = open_store(root)
    results = [
        found[0]
        for path in store.list("media")
        if path.endswith("/result.json") and (found := read_result(store, path.split("/")[1]))
    ]
    assert len(results) == count, f"{len(results)} results of {count} objects"
    stages_s = sum(timing.cpu_s for result in results for timing in result.timing.values())
    cores = available_cores()
    return {
        "objects": count,
        "wall s": round(wall_s, 1),
        "media/s": round(count / wall_s, 2),
        "stages' CPU s/object": round(stages_s / count, 3),
        "overhead s/object": round((wall_s - stages_s / cores) / count, 3),
        **{f"{name} CPU s/object": round(seconds / count, 3) for name, seconds in spent.items()},
        "flow MB grown": round(_memory() - before, 1),
    }


def _memory() -> float:
    """Resident memory of this process (flow and scheduler), MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu() -> dict[str, float]:
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
