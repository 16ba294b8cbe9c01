"""Past the sample: a steady state's throughput with its confidence interval, and the cheapest site for a deadline.

A site of any size is made of equal cells: one Prefect server each (its one process is the first thing that does not
grow), with its own flow processes, scheduler and workers. One cell is simulated, and multiplied.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks._events import Slowdown
from benchmarks._simulation import Media, Site, demand, simulate
from benchmarks._stage_costs import Costs
from tasks.core.cost import GIB, Prices

BATCHES = 10
"""Parts of the sample whose rates give the confidence interval (batch means)."""

CONFIDENCE = 0.95
MOST_SIMULATED = 400
SATURATED = 0.9
"""Busier than this, a station is what bounds the throughput."""

BOUGHT = ("cpu", "gpu", "flow")


@dataclass(frozen=True)
class Load:
    """What is to be analysed."""

    objects: int
    media_s: float
    """Length of each, seconds."""
    mix: Mapping[str, float]
    """Shares of the kinds."""

    def sample(self, seed: int) -> Iterator[Media]:
        """Media without end, drawn from the mix."""
        choose = random.Random(seed)
        kinds, shares = list(self.mix), list(self.mix.values())
        while True:
            yield Media(choose.choices(kinds, shares)[0], self.media_s)


@dataclass(frozen=True)
class Steady:
    """One cell once it has warmed up."""

    rate: float
    """Media per second."""
    low: float
    """Bounds of the 95% confidence interval of the rate."""
    high: float
    utilisation: Mapping[str, float]
    waits: Mapping[str, float]
    """Seconds, by `station: label`."""
    latency_s: float
    """Mean time in flight of a media."""
    longest_s: float
    sampled: int
    left_out: int
    """Media of the warm-up, before the sample."""

    @property
    def bottleneck(self) -> str:
        """The busiest station; `media in flight` where none is busy: the flow processes do not take enough on."""
        name = max(self.utilisation, key=lambda station: self.utilisation[station])
        return NAMES[name] if self.utilisation[name] >= SATURATED else "media in flight"


NAMES = {
    "cpu": "CPU workers",
    "gpu": "GPU workers",
    "flow": "flow processes",
    "server": "Prefect server",
    "link": "S3 link",
}


def steady(costs: Costs, site: Site, load: Load, slowdown: Slowdown, *, seed: int = 1, per_lane: int = 40) -> Steady:
    """Simulates a sample of the load: two rounds of all lanes to warm up, then BATCHES parts that are measured.

    No measured part holds the end of the run, when lanes run empty.
    """
    from scipy.stats import t

    left_out = 2 * site.lanes
    part = max(10, math.ceil(per_lane * site.lanes / BATCHES))
    marks = [left_out + number * part for number in range(BATCHES + 1)]
    source = load.sample(seed)
    media = [next(source) for _ in range(marks[-1] + site.lanes)]
    outcome = simulate(costs, site, media, slowdown, seed=seed, marks=marks)
    times = [snapshot.time_s for snapshot in outcome.snapshots[1:-1]]
    rates = [part / (end - start) for start, end in itertools.pairwise(times)]
    rate = (BATCHES * part) / (times[-1] - times[0])
    mean = sum(rates) / BATCHES
    error = math.sqrt(sum((one - mean) ** 2 for one in rates) / (BATCHES - 1) / BATCHES)
    half = float(t.ppf((1 + CONFIDENCE) / 2, BATCHES - 1)) * error
    spans = [end - start for start, end in outcome.spans[left_out : marks[-1]]]
    return Steady(
        rate=rate,
        low=rate - half,
        high=rate + half,
        utilisation=outcome.utilisation(1, -2),
        waits=outcome.waits(1, -2),
        latency_s=sum(spans) / len(spans),
        longest_s=max(spans),
        sampled=BATCHES * part,
        left_out=left_out,
    )


def mean_demand(costs: Costs, site: Site, load: Load, slowdown: Slowdown) -> dict[str, float]:
    """Server-seconds per media of each station, over the mix."""
    total = sum(load.mix.values())
    found: dict[str, float] = {}
    for kind, share in load.mix.items():
        for name, seconds in demand(costs, site, Media(kind, load.media_s), slowdown).items():
            found[name] = found.get(name, 0.0) + seconds * share / total
    return found


def _alone_s(costs: Costs, site: Site, load: Load, slowdown: Slowdown) -> float:
    """Time in flight of a media that meets no queue, seconds, over the mix: by Little's law what must be in flight."""
    empty = replace(site, cpu_workers=1000, gpu_workers=1000, flows=1, in_flight=1)
    total = sum(load.mix.values())
    alone = {kind: simulate(costs, empty, [Media(kind, load.media_s)], slowdown).spans[0] for kind in load.mix}
    return sum(share / total * (alone[kind][1] - alone[kind][0]) for kind, share in load.mix.items())


@dataclass(frozen=True)
class Plan:
    """A site for a deadline."""

    cells: int
    site: Site
    """Of one cell."""
    steady: Steady
    seconds: float
    """Until everything is done, start and end included."""
    hour_usd: float
    simulated: int
    """Sites that were simulated to find it."""


@dataclass(frozen=True)
class Market:
    """What may be bought, and for how much."""

    prices: Prices
    gpu: bool
    """GPU workers have a GPU, and its price; else they are CPU workers that take GPU-tagged tasks."""
    start_s: float
    most_cells: int = 100_000
    in_flight: int | None = None
    """Per flow process; None: as many as a backfill takes by itself."""

    def hour_usd(self, site: Site, cells: int = 1) -> float:
        """An hour of a site: workers, flow processes, a Prefect server for each cell."""
        gpu_second = self.prices.gpu_second if self.gpu else self.prices.cpu_second
        processes = site.cpu_workers + site.flows + 1
        return 3600 * cells * (processes * self.prices.cpu_second + site.gpu_workers * gpu_second)

    def cell(self, site: Site, cpu: int, gpu: int, flows: int) -> Site:
        """The site with other numbers, and the media in flight that these bring (flows/backfill_prefix.py)."""
        in_flight = self.in_flight or max(8, min(32, 4 * (cpu + gpu)))
        return replace(site, cpu_workers=cpu, gpu_workers=gpu, flows=flows, in_flight=in_flight)


def seconds_for(found: Steady, cells: int, load: Load, start_s: float) -> float:
    """Until a load is done, by the lower bound of the rate; the last media ends a whole time in flight later."""
    return start_s + load.objects / (cells * found.low) + found.longest_s if found.low > 0 else math.inf


class NoPlan(Exception):
    """No site meets the deadline; says what is in the way."""


def cheapest(
    costs: Costs, site: Site, load: Load, slowdown: Slowdown, deadline_s: float, market: Market, *, seed: int = 1
) -> Plan:
    """The site with the lowest price per hour that is done in time. `site` gives all but the numbers.

    Sites are simulated from the cheapest up, beginning with the fewest that the demands allow, until one is in time; so
    that one is the cheapest. Those with no more of anything than one that was too slow are left out. Raises NoPlan.
    """
    available_s = deadline_s - market.start_s
    if available_s <= 0:
        raise NoPlan(f"Starting the workers takes {market.start_s:.0f} s, longer than the deadline.")
    demands = mean_demand(costs, market.cell(site, 1, 1, 1), load, slowdown)
    rate = load.objects / available_s
    fewest = max(math.ceil(rate * demands[name]) for name in ("server", "link") if name in demands)
    if fewest > market.most_cells:
        at_best = market.start_s + load.objects * max(demands["server"], demands.get("link", 0)) / market.most_cells
        raise NoPlan(
            f"The Prefect server is in the way: with {market.most_cells} it takes {at_best / 3600:.1f} h at best."
        )
    too_slow: list[tuple[int, tuple[int, int, int]]] = []
    stuck: set[int] = set()
    queue: list[tuple[float, int, tuple[int, int, int]]] = []
    seen = set()

    def offer(cells: int, numbers: tuple[int, int, int]) -> None:
        if (cells, numbers) not in seen:
            seen.add((cells, numbers))
            heapq.heappush(queue, (market.hour_usd(market.cell(site, *numbers), cells), cells, numbers))

    alone_s = _alone_s(costs, site, load, slowdown)
    for cells in range(max(1, fewest), min(market.most_cells, 2 * fewest + 4) + 1):
        cpu, gpu, flows = (max(1, math.ceil(rate / cells * demands.get(name, 0.0) - 1e-9)) for name in BOUGHT)
        in_flight = market.cell(site, cpu, gpu, flows).in_flight
        offer(cells, (cpu, gpu, max(flows, math.ceil(rate / cells * alone_s / in_flight))))
    simulated = 0
    while queue and simulated < MOST_SIMULATED:
        price, cells, numbers = heapq.heappop(queue)
        if cells in stuck:
            continue
        if not any(one == cells and _covers(slow, numbers) for one, slow in too_slow):
            cell = market.cell(site, *numbers)
            found = steady(costs, cell, load, slowdown, seed=seed)
            simulated += 1
            seconds = seconds_for(found, cells, load, market.start_s)
            if seconds <= deadline_s:
                return Plan(cells, cell, found, seconds, price, simulated)
            too_slow.append((cells, numbers))
            if max(found.utilisation["server"], found.utilisation.get("link", 0.0)) > 0.99:
                stuck.add(cells)
                continue
        for index in range(len(BOUGHT)):
            more = list(numbers)
            more[index] += 1
            offer(cells, (more[0], more[1], more[2]))
    raise NoPlan(f"{simulated} sites were simulated, none is done in {deadline_s / 3600:.1f} h.")


def _covers(slow: tuple[int, int, int], numbers: tuple[int, int, int]) -> bool:
    return all(has >= wanted for has, wanted in zip(slow, numbers, strict=True))


def run_usd(costs: Costs, load: Load, plan: Plan, prices: Prices) -> dict[str, float]:
    """US dollars until all is done: machines as reserved, requests, and one month of what was stored."""
    total = sum(load.mix.values())
    requests = costs.overhead.flow_run_requests
    stored = 0.0
    for name, share in load.mix.items():
        kind = costs.kinds[name]
        for stage, cost in kind.stages.items():
            runs = share / total * kind.runs(stage, load.media_s)
            requests += runs * cost.requests
            stored += runs * cost.bytes_out.at(load.media_s / max(1, kind.runs(stage, load.media_s)))
    return {
        "machines": plan.hour_usd * plan.seconds / 3600,
        "requests": load.objects * requests / 1000 * prices.request,
        "storage, a month": load.objects * stored / GIB * prices.gb_month,
    }
