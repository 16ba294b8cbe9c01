"""Load: requests by a pattern, against the deployment, the served flow or the flow; latency, success, throughput, cost.

A request is one flow run of analyze-media over a clip of five seconds with speech and shapes (the beginning of the
bundled sample) whose bytes nobody has seen before, so that no answer comes from the cache. The parts are real, those of
`make up`: Prefect server, S3 (SeaweedFS), Dask scheduler and workers, and what executes flow runs; each is a process on
loopback. A request has succeeded when its flow run ended as Done and the result in the store says the words and shapes
that the sample is made of. All is bounded: requests, seconds in which they are sent, seconds to wait for them.

patterns
  steady       one request every 1/rate seconds
  burst        --concurrency requests at once, then a pause that makes the mean rate
  ramp         the rate rises linearly from 0 to twice the mean
  poisson      independent users: exponential gaps, drawn from --seed
  closed       --concurrency users, each sends its next request when its last one has ended

regimes        one command switches: what runs when the first request comes
  cold         `prefect worker start`, which starts a Python for each run; workers that have loaded no model
  warm         `python -m flows serve`, and workers that have run before
  burst-ready  `python -m flows serve`, and models loaded before the first request

targets        what executes flow runs; each regime has its own unless you say
  deployment   `prefect worker start`
  served       `python -m flows serve`
  flow         the flow called in this process, on a server and a cluster of its own, as `python -m flows` does

examples
  python -m benchmarks load                                      closed loop, warm, 2 to 64 users: minutes
  python -m benchmarks load --pattern poisson --rate 0.5 --count 20 --seed 7
  python -m benchmarks load --regime cold --concurrency 1 --count 3
  python -m benchmarks load --pattern burst --rate 1 --concurrency 16 --regime burst-ready --page load.html
  python -m benchmarks load --read one.jsonl two.jsonl --page load.html --save
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._latency import Level, read_levels, write_levels
from benchmarks._load_tables import tables
from benchmarks._results import machine, parser, publish
from benchmarks._workload import PATTERNS, Pattern, Workload

CONCURRENCIES = (2, 4, 8, 16, 32, 64)
LEAST, PER_USER = 16, 1.5
"""Requests of a closed loop's level, where --count does not say: so many, or so many for each user."""


def main(argv: Sequence[str]) -> None:
    """Runs the levels (or reads kept ones), and prints, keeps and draws their figures."""
    from tasks.core.errors import ReelflowError
    from tasks.core.models import bundled

    arguments = _parse(argv)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        levels = _read(arguments.read) if arguments.read else list(_run(arguments))
    except ReelflowError as error:
        print("\n".join(filter(None, [error.message, error.detail])), file=sys.stderr)
        sys.exit(1)
    weights = [bundled.SPEECH_CHECKPOINT, bundled.SHAPES_WEIGHTS]
    publish(arguments, "load", __doc__, tables(levels), weights=weights)
    if arguments.page:
        from benchmarks._load_page import page

        arguments.page.write_text(page(levels, machine()), encoding="utf-8")
        print(f"The page is {arguments.page}", file=sys.stderr)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    made = parser("load", __doc__)
    option = made.add_argument
    option("--pattern", choices=PATTERNS, default="closed", help="when requests come [default: closed]")
    option("--rate", type=float, default=[1.0], nargs="+", metavar="N", help="mean requests per second")
    option("--concurrency", type=int, nargs="+", metavar="N", help="users (closed), requests at once (burst)")
    option("--count", type=int, metavar="N", help="requests of each level [30; closed: 1.5 per user, at least 16]")
    option("--seed", type=int, default=1, help="of poisson's gaps [default: 1]")
    option("--regime", choices=("cold", "warm", "burst-ready"), default="warm", help="[default: warm]")
    option("--target", choices=("deployment", "served", "flow"), help="[default: the regime's]")
    option("--limit", type=int, default=4, metavar="N", help="flow runs that are executed at a time [default: 4]")
    option("--seconds", type=float, default=60, metavar="S", help="of sending, in a closed loop [default: 60]")
    option("--patience", type=float, default=120, metavar="S", help="of waiting after the last request [default: 120]")
    option("--folder-store", action="store_true", help="keep sources and results in a folder, not in S3")
    option("--requests", type=Path, metavar="FILE", help="add the record of each request to this file")
    option("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: take what --requests kept")
    option("--page", type=Path, metavar="FILE", help="write a report page with plots (HTML)")
    arguments = made.parse_args(argv)
    try:
        arguments.levels = list(_workloads(arguments))
    except ValueError as error:
        made.error(str(error))
    for name in ("limit", "seconds", "patience"):
        if getattr(arguments, name) <= 0:
            made.error(f"--{name} must be more than 0")
    return arguments


def _workloads(arguments: argparse.Namespace) -> Iterator[Workload]:
    """One for each level. Raises ValueError for a value that makes none."""
    pattern: Pattern = arguments.pattern
    if pattern == "closed":
        for users in arguments.concurrency or CONCURRENCIES:
            count = arguments.count if arguments.count is not None else max(LEAST, round(PER_USER * users))
            yield Workload(pattern, count, concurrency=users, seed=arguments.seed)
        return
    for rate in arguments.rate:
        for size in arguments.concurrency or [8 if pattern == "burst" else 1]:
            yield Workload(pattern, arguments.count if arguments.count is not None else 30, rate, size, arguments.seed)


def _read(paths: Sequence[Path]) -> list[Level]:
    from tasks.core.errors import SetupError

    try:
        return [level for path in paths for level in read_levels(path)]
    except (OSError, ValueError) as error:
        raise SetupError(f"--read: {error}") from error


def _run(arguments: argparse.Namespace) -> Iterator[Level]:
    """Runs each level on one system. Raises AssertionError for a level in which nothing succeeded."""
    import asyncio

    from benchmarks._systems import measure, system

    with system(arguments.regime, arguments.target, arguments.limit, folder_store=arguments.folder_store) as found:
        bounds = {"seconds": arguments.seconds, "patience_s": arguments.patience}
        if found.regime.warm_up:
            warm_up = Workload("closed", found.regime.warm_up, concurrency=arguments.limit)
            asyncio.run(measure(found, warm_up, label="warm-up", **bounds))
        for workload in arguments.levels:
            level = asyncio.run(measure(found, workload, **bounds))
            assert level.done, f"{workload.label}: no request succeeded; the first: {level.requests[0]}"
            if arguments.requests:
                write_levels(arguments.requests, [level])
            yield level
