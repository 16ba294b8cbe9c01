"""Imports: where the seconds of every Python that a cold run starts go, package by package.

Python's own account (PYTHONPROFILEIMPORTTIME) of a real run: the system of `cold_start` in its regime `cold`, with the
account switched on in Dask workers and Prefect worker. A package's seconds are those of its modules themselves, without
what they import. The account costs time of its own, so compare shares, and seconds with `cold_start`.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from benchmarks._results import Row, Table, parser, publish

Seconds = dict[str, float]
"""By top-level package."""

PACKAGES = 12
"""Packages that are named for each process; the others are summed."""


def main(argv: Sequence[str]) -> None:
    """Runs one cold request and prints what each Python imported."""
    from tasks.core.errors import ReelflowError

    arguments = parser("imports", __doc__).parse_args(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        counted = _counted()
    except ReelflowError as error:
        print("\n".join(filter(None, [error.message, error.detail])), file=sys.stderr)
        sys.exit(1)
    publish(arguments, "imports", __doc__, [_summary(counted), *_packages(counted)])


def _counted() -> dict[str, Seconds]:
    """Seconds by package, for every Python that the first run after a start needs."""
    from benchmarks._regimes import EXECUTOR
    from benchmarks._systems import system
    from benchmarks.cold_start import first_and_later

    with system("cold", None, 2) as found:
        first_and_later(found, "cold", later=0, PYTHONPROFILEIMPORTTIME="1")
        assert found.deployed is not None
        counted = {name: split(found.deployed.log(name))[-1] for name in found.deployed.workers}
        executor = split(found.deployed.log(EXECUTOR))
    assert len(executor) == 3, f"a Prefect worker and two Pythons of a flow run, not {len(executor)}"
    return dict(zip(("Prefect worker", "flow run: workspace", "flow run: engine"), executor, strict=True)) | counted


def split(log: str) -> list[Seconds]:
    """Seconds by top-level package for each process that wrote into a log; a process begins with the table's head.

    A line is `import time: self [us] | cumulative | module`.
    """
    found: list[Seconds] = []
    for line in log.splitlines():
        if "import time: self [us]" in line:
            found.append(defaultdict(float))
        elif found and (entry := re.search(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line)):
            found[-1][entry.group(2).partition(".")[0]] += int(entry.group(1)) / 1e6
    return found


def _summary(counted: dict[str, Seconds]) -> Table:
    rows: list[Row] = [
        {"process": process, "packages": len(packages), "s": sum(packages.values())}
        for process, packages in counted.items()
    ]
    return Table("Imports by process", rows, "flow run: both Pythons, one after the other, for each run.")


def _packages(counted: dict[str, Seconds]) -> Iterator[Table]:
    for process, packages in counted.items():
        total = sum(packages.values())
        most = sorted(packages.items(), key=lambda item: -item[1])[:PACKAGES]
        rest = total - sum(seconds for _, seconds in most)
        rows: list[Row] = [
            {"package": package, "s": seconds, "share %": 100 * seconds / total}
            for package, seconds in [*most, (f"{len(packages) - len(most)} others", rest)]
        ]
        yield Table(f"Imports: {process}", rows)
