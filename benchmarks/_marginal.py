"""Throughput without start-up: two jobs of different length, and what the difference took."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import _sides
from benchmarks._results import median
from benchmarks._sides import Found, Job


def throughput(
    sides: Sequence[str],
    job: Callable[[str, bool], Job],
    items: tuple[int, int],
    repeat: int,
    check: Callable[[str, Found, Found], None],
) -> list[dict[str, Any]]:
    """One row per side: seconds of a short and a long job, and items per second of what the long one has more.

    `job(folder, long)` makes a job, `items` is how many things the short and the long one hold. Sides take turns. All
    sides' long answers are given to `check` with the first side's. Raises AssertionError where it does.
    """
    taken: dict[tuple[str, bool], list[float]] = {}
    first: Found | None = None
    for _ in range(repeat):
        for name in sides:
            for long in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    found = _sides.run(name, job(folder, long))
                taken.setdefault((name, long), []).append(found.seconds)
                print(f"{name}, {items[long]} items: {found.seconds:.1f} s", file=sys.stderr, flush=True)
                if long:
                    first = first or found
                    check(name, found, first)
    rows: list[dict[str, Any]] = []
    for name in sides:
        short, whole = median(taken[name, False]), median(taken[name, True])
        assert whole > short, f"{name}: {items[1]} items took {whole:.2f} s, {items[0]} took {short:.2f} s"
        rate = (items[1] - items[0]) / (whole - short)
        rows.append({"side": name, f"{items[0]} items, s": short, f"{items[1]} items, s": whole, "items/s": rate})
    ours = rows[0]["items/s"]
    return [row | {f"{sides[0]} / side": ours / row["items/s"]} for row in rows]
