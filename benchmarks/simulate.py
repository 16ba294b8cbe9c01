"""How many workers for a deadline: a model of the pipeline, driven by measured stage costs, beyond this machine.

`simulate calibrate` measures the costs on this machine and keeps them in results/stage_costs.json: short real media are
analysed one at a time by one worker (seconds by stage over seconds of media, from the results' own timings; the rest
of the time that a task run holds its worker is overhead), tiny objects give the CPU time of flow process and Prefect
server per flow run and per task run, and every sort of work is timed alone and beside every other on the other cores
(contention). `simulate validate` predicts backfills of another mix, other lengths and another count on 1 and on 2
workers, then runs them; nothing of them goes into the costs. With neither word it predicts: throughput over workers,
and for each deadline the cheapest numbers of workers, flow processes and Prefect servers.

The model is one of discrete events: media in flight per flow process, a flow process that does one thing at a time, a
Prefect server, task runs that wait for their inputs and then for a worker, in order of submission. On one host the
cores are shared among all that is busy, and slow each other down as was measured; elsewhere each process has a core of
its own, slowed by neighbours that do the same work (--own-hosts: by none).

Nothing simulates millions of objects: one server's cell is simulated until 10 parts of a steady state are sampled,
after two rounds of all media in flight were dropped; the 95% interval of the rate is that of batch means, and plans
use its lower end. More servers are more such cells. Extrapolated are: the number of objects; lengths beyond those
calibrated (lines through 4 to 18 s); more workers than were measured; S3, which this machine lacks (--link-gbps,
--request-ms); the speed of GPUs that were not measured (--gpu-speed). Not modelled: failures, a database that slows
down as it grows, Dask's scheduler apart from the flow process that it was measured in.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import _calibration, _results, _stage_costs
from benchmarks._calibration import TASKS
from benchmarks._measured_backfill import Answer, Asked, Spec, measure, run_spec
from benchmarks._planning import Load, Market
from benchmarks._simulation import Media, Outcome, Site, simulate
from benchmarks._simulation_tables import (
    Question,
    cost_table,
    overhead_table,
    plan_table,
    slowdown_table,
    throughput_table,
    validation_table,
)
from benchmarks._stage_costs import Seen, StageCosts, Validation
from tasks.settings import settings
from tasks.workers.threads import available_cores

DEADLINES = ("12h", "24h", "2d", "4d", "7d", "14d", "30d")
MIX = {"street": 1, "talk": 3, "radio": 2}
LENGTHS_S = (3.0, 6.0, 13.0, 24.0)
SEEDS = 20
"""Simulations of each validation."""

VALIDATED = 30
"""Objects of a validation: calibration has 18, of other lengths and in equal parts."""


def main(argv: Sequence[str]) -> None:
    """Calibrates, validates or predicts, and prints the tables."""
    if argv[:1] == ["measure"]:
        run_spec(*map(Path, argv[1:]))
        return
    arguments = _parser().parse_args(argv)
    if arguments.action == "calibrate":
        _stage_costs.save(_calibrated())
    costs = _stage_costs.load()
    if arguments.action == "validate":
        costs = costs.model_copy(update={"validations": _validated(costs, arguments.workers, arguments.seed)})
        _stage_costs.save(costs)
    tables = [cost_table(costs), overhead_table(costs), slowdown_table(costs)]
    tables += [validation_table(costs)] if costs.validations else []
    if arguments.action is None:
        asked = _question(costs, arguments)
        tables += [throughput_table(asked), plan_table(asked, arguments.deadline)]
    _results.publish(arguments, "simulate", __doc__, tables, packages=["scipy"])


def _parser() -> argparse.ArgumentParser:
    parser = _results.parser("simulate", __doc__)
    parser.add_argument("action", nargs="?", choices=["calibrate", "validate"], help="default: predict")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="workers of each validation")
    parser.add_argument("--deadline", type=_seconds, nargs="+", default=list(map(_seconds, DEADLINES)), help="90m, 24h")
    parser.add_argument("--objects", type=int, default=10_000_000, help="objects of the bucket")
    parser.add_argument("--media-seconds", type=float, default=60.0, help="length of each")
    parser.add_argument("--mix", type=_mix, default={}, help="street=1,talk=3: shares of kinds; default: all alike")
    parser.add_argument("--in-flight", type=int, help="media per flow process; default: the backfill's own rule")
    parser.add_argument("--servers", type=int, default=100_000, help="most Prefect servers (cells)")
    parser.add_argument("--own-hosts", action="store_true", help="workers have no neighbours that slow them down")
    parser.add_argument("--gpu-speed", type=float, help="GPU workers have GPUs so many times faster than measured")
    parser.add_argument("--link-gbps", type=float, default=10.0, help="S3 link of a cell (assumed), Gbit/s; 0: none")
    parser.add_argument("--request-ms", type=float, default=30.0, help="one request to S3 (assumed)")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: write 90m, 24h or 7d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _mix(text: str) -> dict[str, float]:
    return {kind: float(share) for kind, _, share in (part.partition("=") for part in text.split(","))}


def _calibrated() -> StageCosts:
    from benchmarks._contention import measure_slowdown

    cores = available_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_threads, start_s = _calibration.calibrate(folder, list(dict.fromkeys((1, cores))))
        media = _calibration.make_media(folder / "pairs", [("street", 4.0), ("talk", 4.0)], seed=3)
        street, talk = sorted(media.iterdir())
        slowdown = _stage_costs.check_slowdown(measure_slowdown(street, talk, cores))
    import torch

    return StageCosts(
        date=datetime.now(UTC).date().isoformat(),
        machine=_results.machine(),
        options=_calibration.OPTIONS,
        cores=cores,
        gpu=torch.cuda.is_available(),
        start_s=start_s,
        slowdown=slowdown,
        by_threads=by_threads,
    )


def _validated(costs: StageCosts, workers: Iterable[int], seed: int) -> list[Validation]:
    choose = random.Random(seed)
    wanted = [
        Media(choose.choices(list(MIX), list(MIX.values()))[0], choose.choice(LENGTHS_S)) for _ in range(VALIDATED)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        media = _calibration.make_media(folder / "validation", wanted, seed=4)
        asked = Asked(name="validation", folder=str(media), options=costs.options)
        warm = _calibration.warming(folder)
        for count in workers:
            site = local_site(costs, count)
            own = costs.with_threads(max(1, costs.cores // count))
            runs = [simulate(own, site, wanted, costs.slowdown, seed=seed + number) for number in range(SEEDS)]
            [found] = measure(Spec(workers=count, threads=None, warm=warm, asked=[asked]), folder).answers
            rows.append(
                Validation(
                    workers=count,
                    mix=f"{VALIDATED} objects, {sum(one.seconds for one in wanted):.0f} s",
                    predicted=_mean([_predicted(run) for run in runs]),
                    range_s=(min(run.wall_s for run in runs), max(run.wall_s for run in runs)),
                    measured=_measured(found, count),
                )
            )
    return rows


def _predicted(run: Outcome) -> Seen:
    totals = run.snapshots[-1].totals["cpu"]
    waited = sum(seconds for stage, seconds in totals.waited_s.items() if stage != "publish")
    served = sum(count for stage, count in totals.served.items() if stage != "publish")
    return Seen(wall_s=run.wall_s, busy=totals.busy_s / run.servers["cpu"] / run.wall_s, wait_s=waited / served)


def _measured(found: Answer, workers: int) -> Seen:
    names = set(TASKS.values()) - {"publish"}
    stages = [timing for media in found.media for name, timing in media.timing.items() if name in names]
    return Seen(
        wall_s=found.wall_s,
        busy=sum(task.stop - task.start for task in found.tasks) / workers / found.wall_s,
        wait_s=sum(one.queue_s for one in stages) / sum(one.runs for one in stages),
    )


def _mean(seen: Sequence[Seen]) -> Seen:
    return Seen(
        wall_s=sum(one.wall_s for one in seen) / len(seen),
        busy=sum(one.busy for one in seen) / len(seen),
        wait_s=sum(one.wait_s for one in seen) / len(seen),
    )


def local_site(costs: StageCosts, workers: int) -> Site:
    """A local cluster on the machine that was measured, and a backfill's own number of media in flight."""
    return Site(cpu_workers=workers, in_flight=max(8, min(32, 4 * workers)), cores=costs.cores)


def _question(costs: StageCosts, arguments: argparse.Namespace) -> Question:
    kinds = arguments.mix or dict.fromkeys(costs.with_threads(1).kinds, 1.0)
    market = Market(
        prices=settings().prices,
        gpu=costs.gpu or arguments.gpu_speed is not None,
        start_s=costs.start_s,
        most_cells=arguments.servers,
        in_flight=arguments.in_flight,
    )
    site = Site(
        cpu_workers=1,
        packed=not arguments.own_hosts,
        gpu_speed=arguments.gpu_speed or 1.0,
        link_bytes_s=arguments.link_gbps * 1e9 / 8,
        request_s=arguments.request_ms / 1000,
    )
    return Question(costs, Load(arguments.objects, arguments.media_seconds, kinds), site, market, arguments.seed)
