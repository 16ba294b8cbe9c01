"""What the simulation says, as tables: measured costs, predicted against measured, throughput, plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmarks._planning import NAMES, Load, Market, NoPlan, Plan, Steady, cheapest, mean_demand, run_usd, steady
from benchmarks._results import Plot, Row, Table
from benchmarks._simulation import Site
from benchmarks._stage_costs import Costs, StageCosts

WORKERS = (2, 4, 8, 16, 32, 64)
FED = 32
"""Workers for each flow process of the throughput table."""


@dataclass(frozen=True)
class Question:
    """What is predicted: a load, on workers elsewhere like `site`, from what the market has."""

    costs: StageCosts
    load: Load
    site: Site
    market: Market
    seed: int

    @property
    def own(self) -> Costs:
        """Of worker processes with a core each."""
        return self.costs.with_threads(1)


def cost_table(costs: StageCosts) -> Table:
    rows: list[Row] = [
        {
            "threads": own.threads,
            "kind": kind,
            "stage": name,
            "s per run": stage.wall_s.fixed,
            "s per media s": stage.wall_s.slope,
            "CPU s per s": stage.share,
            "store requests": stage.requests,
            "largest error %": 100 * max(abs(factor - 1) for factor in stage.spread),
        }
        for own in costs.by_threads
        for kind, found in own.kinds.items()
        for name, stage in found.stages.items()
    ]
    note = (
        f"Calibrated on {costs.date}, {costs.machine['processor']}, GPU {costs.machine['GPU']}, with "
        f"`{' '.join(costs.options)}`. Seconds of a task run's body alone on the machine; publish: all of its task run "
        "but for the overhead. Error: the farthest single run from the line."
    )
    return Table("Stage costs", rows, note)


def overhead_table(costs: StageCosts) -> Table:
    rows: list[Row] = [
        {"threads": own.threads, "what": name.replace("_", " "), "value": value}
        for own in costs.by_threads
        for name, value in own.overhead.model_dump().items()
    ]
    note = f"From nothing to a worker with its models: {costs.start_s:.1f} s. Requests are those of a folder store."
    return Table("Overhead of a backfill, a flow run, a task run", rows, note)


def slowdown_table(costs: StageCosts) -> Table:
    rows: list[Row] = [
        {"work": a}
        | {f"beside {b}": factor for b, factor in row.items()}
        | {f"crowded, threads: {own.threads}": own.crowded.get(a, 1.0) for own in costs.by_threads}
        for a, row in costs.slowdown.items()
    ]
    note = (
        f"CPU time of a piece of work while the other cores (of {costs.cores}) do another, over that alone. "
        "Crowded: of media in flight together, over that of the same media one at a time."
    )
    return Table("Contention", rows, note)


def validation_table(costs: StageCosts) -> Table:
    rows: list[Row] = [
        {
            "workers": one.workers,
            "mix": one.mix,
            "predicted s": one.predicted.wall_s,
            "lowest s": one.range_s[0],
            "highest s": one.range_s[1],
            "measured s": one.measured.wall_s,
            "predicted / measured": one.predicted.wall_s / one.measured.wall_s,
            "workers busy %, predicted": 100 * one.predicted.busy,
            "measured %": 100 * one.measured.busy,
            "wait s per task run, predicted": one.predicted.wait_s,
            "measured wait s": one.measured.wait_s,
        }
        for one in costs.validations
    ]
    return Table("Predicted and measured", rows, "Warm backfills of this machine; calibrated on other media.")


def throughput_table(asked: Question) -> Table:
    """One server's cell with more and more workers, of each sort as many as its stages need."""
    load, market = asked.load, asked.market
    demands = mean_demand(asked.own, replace(asked.site, gpu_workers=1), load, asked.costs.slowdown)
    rows: list[Row] = []
    for count in WORKERS:
        gpu = min(count - 1, max(1, round(count * demands["gpu"] / (demands["gpu"] + demands["cpu"]))))
        cell = market.cell(asked.site, count - gpu, gpu, math.ceil(count / FED))
        found = steady(asked.own, cell, load, asked.costs.slowdown, seed=asked.seed)
        rows.append(
            {
                "workers": count,
                "CPU": cell.cpu_workers,
                "GPU": cell.gpu_workers,
                "flow processes": cell.flows,
                "media/s": found.rate,
                "95% ±": (found.high - found.low) / 2,
                "bottleneck": found.bottleneck,
                **_busy(found),
                "media in flight s": found.latency_s,
                **_longest_waits(found.waits),
                "media sampled": found.sampled,
            }
        )
    note = f"One Prefect server. {_asked(asked)} The longest wait is the mean of the stage that waits longest."
    plot = Plot("workers", ["media/s"], log_x=True, label="media per second, one Prefect server")
    return Table("Throughput over workers, one Prefect server", rows, note, [plot])


def plan_table(asked: Question, deadlines_s: Iterable[float]) -> Table:
    """For each deadline the cheapest site, or what is in the way."""
    rows: list[Row] = []
    for deadline_s in deadlines_s:
        row: Row = {"deadline h": deadline_s / 3600}
        try:
            plan = cheapest(
                asked.own, asked.site, asked.load, asked.costs.slowdown, deadline_s, asked.market, seed=asked.seed
            )
        except NoPlan as error:
            rows.append({**row, "bottleneck": str(error)})
            continue
        rows.append({**row, **_plan_row(asked, plan)})
    note = (
        f"{asked.load.objects:,} objects; the cheapest site per hour that is done in time. {_asked(asked)} "
        "Prices are the settings' (`REELFLOW_PRICES__*`); a flow process and a Prefect server cost what a CPU worker "
        "does. Extrapolated: everything but the steady state of one server's cell, of which so many media were sampled."
    )
    plots = [
        Plot("deadline h", ["USD"], log_x=True, label="US dollars, all objects"),
        Plot("deadline h", ["CPU workers", "GPU workers"], log_x=True, log_y=True, label="workers"),
    ]
    return Table("Workers and cost for a deadline", rows, note, plots)


def _plan_row(asked: Question, plan: Plan) -> Row:
    usd = run_usd(asked.own, asked.load, plan, asked.market.prices)
    return {
        "CPU workers": plan.cells * plan.site.cpu_workers,
        "GPU workers": plan.cells * plan.site.gpu_workers,
        "flow processes": plan.cells * plan.site.flows,
        "Prefect servers": plan.cells,
        "media in flight": plan.cells * plan.site.lanes,
        "done in h": plan.seconds / 3600,
        "media/s": plan.cells * plan.steady.rate,
        "95% ±": plan.cells * (plan.steady.high - plan.steady.low) / 2,
        "bottleneck": plan.steady.bottleneck,
        **_busy(plan.steady),
        "USD/h": plan.hour_usd,
        "USD": sum(usd.values()),
        **{f"USD {name}": amount for name, amount in usd.items()},
        "sites simulated": plan.simulated,
        "media sampled": plan.steady.sampled,
    }


def _busy(found: Steady) -> dict[str, float]:
    return {f"{NAMES[name]} busy %": 100 * busy for name, busy in found.utilisation.items()}


def _longest_waits(waits: Mapping[str, float]) -> dict[str, float]:
    """Of each station, the mean wait of the stage that waits for it longest."""
    longest: dict[str, float] = {}
    for label, seconds in waits.items():
        station = NAMES[label.partition(":")[0]]
        longest[station] = max(longest.get(station, 0.0), seconds)
    return {f"longest wait for {station}, s": seconds for station, seconds in longest.items()}


def _asked(asked: Question) -> str:
    """What was assumed."""
    load, site, total = asked.load, asked.site, sum(asked.load.mix.values())
    mix = ", ".join(f"{kind} {share / total:.0%}" for kind, share in load.mix.items())
    gpu = "GPU workers as measured" if asked.costs.gpu else "GPU workers are CPU cores that take GPU-tagged tasks"
    if site.gpu_speed != 1:
        gpu = f"GPU workers {site.gpu_speed:g} times as fast as what was measured (an assumption)"
    beside = "workers have neighbours that slow them down as measured" if site.packed else "workers have no neighbours"
    link = f"S3 carries {site.link_bytes_s * 8 / 1e9:g} Gbit/s per server, a request takes {site.request_s * 1000:g} ms"
    return f"{load.media_s:g} s of media per object, {mix}; {gpu}; {beside}; {link} (assumptions)."
