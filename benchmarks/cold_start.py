"""Cold start: the first run after everything that executes it has started, against those after it; and where it goes.

The system is that of `load` (the parts of `make up`, one user, clips whose bytes nobody has seen). In each repeat, Dask
workers and what executes flow runs are started anew and registered; when the server is through with that, one request
after the other is sent:

  burst-ready  served flow (`python -m flows serve`), models loaded before the first request (REELFLOW_PRELOAD_MODELS)
  warm         served flow, models loaded by the first task that needs them
  cold         `prefect worker start`, which starts a Python for each run; models loaded by the first task
  one Python   as cold, with the job variable `command`: Prefect then prepares no workspace in a Python of its own

What the seconds of start-up go to is what `imports` tells.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._results import Row, Table, median, parser, publish

if TYPE_CHECKING:
    from benchmarks._latency import Level, Request
    from benchmarks._regimes import Name
    from benchmarks._systems import System

LATER = 2
"""Requests after the first."""

COMMAND = f"{sys.executable} -m prefect.engine"


class Kind(NamedTuple):
    regime: Name
    job_variables: dict[str, Any] | None = None


KINDS = {
    "burst-ready": Kind("burst-ready"),
    "warm": Kind("warm"),
    "cold": Kind("cold"),
    "one Python": Kind("cold", {"command": COMMAND}),
}

STEPS = ("queue", "start-up", "before the first stage", "stages", "after the last stage")


def main(argv: Sequence[str]) -> None:
    """Starts each kind --repeat times (or reads kept starts), and prints first and later runs and their steps."""
    from benchmarks._latency import read_levels
    from tasks.core.errors import ReelflowError

    arguments = _parse(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        kept = [level for path in arguments.read or () for level in read_levels(path)]
        levels = kept or list(_run(arguments))
    except ReelflowError as error:
        print("\n".join(filter(None, [error.message, error.detail])), file=sys.stderr)
        sys.exit(1)
    runs = {kind: found for kind in KINDS if (found := [level for level in levels if level.label == kind])}
    publish(arguments, "cold_start", __doc__, [_starts_table(runs), _steps_table(runs)])


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    made = parser("cold_start", __doc__)
    made.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS), help="[default: all]")
    made.add_argument("--repeat", type=int, default=2, metavar="N", help="starts of each kind [default: 2]")
    made.add_argument("--requests", type=Path, metavar="FILE", help="add the record of each request to this file")
    made.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: take what --requests kept")
    arguments = made.parse_args(argv)
    if arguments.repeat < 1:
        made.error("--repeat must be 1 or more")
    return arguments


def _run(arguments: argparse.Namespace) -> Iterator[Level]:
    from benchmarks._latency import write_levels
    from benchmarks._systems import system

    with system(KINDS[arguments.kind[0]].regime, None, 2) as found:
        for _ in range(arguments.repeat):
            for kind in arguments.kind:
                level = first_and_later(found, KINDS[kind].regime, KINDS[kind].job_variables, label=kind)
                if arguments.requests:
                    write_levels(arguments.requests, [level])
                yield level


def first_and_later(
    found: System,
    name: Name,
    job_variables: dict[str, Any] | None = None,
    *,
    later: int = LATER,
    label: str = "",
    **variables: str,
) -> Level:
    """Starts everything anew in a regime, without its warm-up, and sends one request after the other.

    Raises AssertionError when one fails.
    """
    from benchmarks._systems import measure
    from benchmarks._workload import Workload

    assert found.deployed is not None
    found.deployed.begin_again(name, **variables)
    found.deployed.settle()
    workload = Workload("closed", 1 + later, concurrency=1)
    level = asyncio.run(measure(found, workload, seconds=60, patience_s=60, label=label, job_variables=job_variables))
    assert len(level.done) == 1 + later, f"{[(r.status, r.reason) for r in level.requests]}"
    return level


def _starts_table(runs: dict[str, list[Level]]) -> Table:
    rows: list[Row] = []
    for name, levels in runs.items():
        first = [level.requests[0] for level in levels]
        later = [request for level in levels for request in level.requests[1:]]
        row: dict[str, str | int | float] = {"start": name, "starts": len(levels)}
        for what in ("latency", "run"):
            one, other = (median(getattr(r, f"{what}_s") for r in chosen) for chosen in (first, later))
            row |= {f"{what}: first s": one, f"{what}: later s": other, f"{what}: first / later": one / other}
        rows.append(row)
    note = "Medians. latency: from sending to the end of the flow run; run: from the flow's beginning to its end."
    return Table("First and later runs", rows, note)


def _steps_table(runs: dict[str, list[Level]]) -> Table:
    rows: list[Row] = []
    for name, levels in runs.items():
        for which, requests in (
            ("first", [level.requests[0] for level in levels]),
            ("later", [request for level in levels for request in level.requests[1:]]),
        ):
            found = [_steps(request) for request in requests]
            rows.append(
                {"start": name, "run": which} | {f"{step} s": median(steps[step] for steps in found) for step in STEPS}
            )
    note = (
        "Medians. queue: until what executes flow runs took it (it looks every 1 to 2 s); start-up: until the flow "
        "began, for a Prefect worker with the start of Python and its imports; stages: from the first task's start to "
        "the last one's end, with the waits between them."
    )
    return Table("Steps of a run", rows, note)


def _steps(request: Request) -> dict[str, float]:
    assert request.taken
    assert request.started
    assert request.ended
    marks = [
        request.arrived,
        request.taken,
        request.started,
        min(span.start for span in request.stages),
        max(span.end for span in request.stages),
        request.ended,
    ]
    return {step: after - before for step, before, after in zip(STEPS, marks, marks[1:], strict=False)}
