"""The simulation against closed forms, laws of conservation, and exhaustive search."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks._calibration import costs_of
from benchmarks._events import Loop, Machine, Process, Station, Work
from benchmarks._measured_backfill import Answer, TaskSpan
from benchmarks._planning import Load, Market, NoPlan, cheapest, mean_demand, seconds_for, steady
from benchmarks._simulation import Media, Site, demand, simulate
from benchmarks._stage_costs import Costs, Kind, Line, Overhead, Sample, StageCost, fit_line
from tasks.core.cost import Prices
from tasks.core.schema import StageTiming

SORTS = ("detection", "speech", "media", "python")
FLAT = {sort: dict.fromkeys(SORTS, 1.0) for sort in SORTS}
NOBODY = dict.fromkeys(SORTS, 1.0)
TOLERANCE = 0.05


def queue(servers: int, arrivals_per_s: float, service_s: Callable[[random.Random], float], count: int) -> Station:
    """A station after `count` customers that came at random (a Poisson process)."""
    chance, loop = random.Random(7), Loop()
    station = Station(loop, servers)

    def customer() -> Process:
        yield station.take("all")
        yield loop.sleep(service_s(chance))
        station.leave()

    def source() -> Process:
        for _ in range(count):
            yield loop.sleep(chance.expovariate(arrivals_per_s))
            loop.start(customer())

    loop.start(source())
    loop.run()
    return station


def mean_wait_s(station: Station) -> float:
    totals = station.totals()
    return totals.waited_s["all"] / totals.served["all"]


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_constant_service_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    found = mean_wait_s(queue(1, load, lambda _: 1.0, 60_000))
    assert found == pytest.approx(load / (2 * (1 - load)), rel=TOLERANCE)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (3, 0.7), (8, 0.8)])
def test_random_service_waits_as_erlang_says(servers: int, load: float) -> None:
    offered = servers * load
    waiting = offered**servers / math.factorial(servers) / (1 - load)
    delayed = waiting / (sum(offered**k / math.factorial(k) for k in range(servers)) + waiting)
    found = mean_wait_s(queue(servers, offered, lambda chance: chance.expovariate(1.0), 60_000))
    assert found == pytest.approx(delayed / (servers - offered), rel=2 * TOLERANCE)


def test_littles_law_and_conservation_hold_exactly() -> None:
    totals = queue(2, 1.5, lambda chance: chance.uniform(0.5, 1.5), 5_000).totals()
    assert totals.served["all"] == 5_000
    assert totals.queued_s == pytest.approx(totals.waited_s["all"])
    assert totals.busy_s == pytest.approx(5_000, rel=TOLERANCE)


def test_lower_ranks_come_first_and_equal_ones_in_order() -> None:
    loop, served = Loop(), []
    station = Station(loop, 1)

    def customer(name: str, rank: float) -> Process:
        yield station.take(name, rank)
        served.append(name)
        yield loop.sleep(1.0)
        station.leave()

    for name, rank in [("first", 9), ("late", 3), ("early", 1), ("later", 3)]:
        loop.start(customer(name, rank))
    loop.run()
    assert served == ["first", "early", "late", "later"]


def on_machine(
    cores: int, works: list[Work], slowdown: dict[str, dict[str, float]] = FLAT, crowded: dict[str, float] = NOBODY
) -> list[float]:
    """When each of several works that begin together is done."""
    loop, ends = Loop(), [0.0] * len(works)
    machine = Machine(loop, cores, slowdown, crowded)

    def run(number: int, work: Work) -> Process:
        yield machine.do(work)
        ends[number] = loop.now

    for number, work in enumerate(works):
        loop.start(run(number, work))
    loop.run()
    return ends


def test_cores_are_shared_equally() -> None:
    assert on_machine(1, [Work(1, 1, "python"), Work(2, 1, "python")]) == pytest.approx([2, 3])
    assert on_machine(2, [Work(1, 1, "python"), Work(2, 1, "python")]) == pytest.approx([1, 2])
    assert on_machine(2, [Work(1, 1, "python")] * 4) == pytest.approx([2] * 4)


def test_work_takes_longer_where_more_is_to_run_than_there_are_cores() -> None:
    crowded = {"python": 1.5, "media": 4.0}
    assert on_machine(1, [Work(1, 1, "python"), Work(2, 1, "python")], FLAT, crowded) == pytest.approx([3, 4])
    assert on_machine(2, [Work(1, 1, "python"), Work(2, 1, "python")], FLAT, crowded) == pytest.approx([1, 2])


def test_a_shared_core_keeps_the_mean_time_of_processor_sharing() -> None:
    """M/G/1 with processor sharing: work / (1 - load), whatever its distribution."""
    chance, loop, load = random.Random(3), Loop(), 0.6
    machine, times = Machine(loop, 1, FLAT), []

    def one(seconds: float) -> Process:
        began = loop.now
        yield machine.do(Work(seconds, 1.0, "python"))
        times.append(loop.now - began)

    def source() -> Process:
        for _ in range(20_000):
            yield loop.sleep(chance.expovariate(load))
            loop.start(one(chance.choice([0.5, 1.5])))

    loop.start(source())
    loop.run()
    assert sum(times) / len(times) == pytest.approx(1 / (1 - load), rel=TOLERANCE)


def test_neighbours_slow_work_down_as_measured_and_waiting_does_not_slow() -> None:
    pressed = {**FLAT, "detection": {**FLAT["detection"], "detection": 1.7}}
    work = Work(1, 1, "detection")
    assert on_machine(2, [work, work], pressed) == pytest.approx([1.7, 1.7])
    assert on_machine(2, [work, Work(5, 1, "media")], pressed)[0] == pytest.approx(1.0)
    assert on_machine(1, [Work(1, 0, "media"), Work(1, 0, "media")]) == pytest.approx([1, 1])


def stage(fixed: float, slope: float = 0.0, spread: tuple[float, ...] = (1.0,)) -> StageCost:
    nothing = Line(fixed=0, slope=0)
    return StageCost(
        wall_s=Line(fixed=fixed, slope=slope),
        share=1.0,
        bytes_in=nothing,
        bytes_out=nothing,
        requests=5.0,
        spread=spread,
    )


OVERHEAD = Overhead(
    backfill_flow_cpu_s=0,
    backfill_server_cpu_s=0,
    flow_run_flow_cpu_s=0.1,
    flow_run_server_cpu_s=0.1,
    flow_run_server_later_cpu_s=0.05,
    flow_run_wait_s=0.02,
    flow_run_requests=10,
    task_run_flow_cpu_s=0.01,
    task_run_server_cpu_s=0.02,
    task_run_worker_s=0.01,
    task_run_worker_share=1.0,
)
STAGES = {
    "fetch": stage(0.01),
    "probe": stage(0.05),
    "audio": stage(0.05, 0.01),
    "segments": stage(0.02, 0.005),
    "frames": stage(0.05, 0.01, (0.8, 1.2)),
    "detections": stage(0.1, 0.06, (0.9, 1.1)),
    "clips": stage(0.1, 0.01),
    "language": stage(0.05),
    "transcript": stage(0.1, 0.02),
    "publish": stage(0.1),
}
KIND = Kind(stages=STAGES, bytes=Line(fixed=0, slope=1e5), frames_run_s=64.0, speech_share=0.5, speech_run_s=240.0)
COSTS = Costs(threads=1, kinds={"film": KIND}, overhead=OVERHEAD)
FILM = Load(objects=20_000, media_s=20.0, mix={"film": 1.0})
FILMS = [Media("film", 20.0)] * 60


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    site = Site(cpu_workers=2, cores=2)
    runs = [simulate(COSTS, site, FILMS, FLAT, seed=seed) for seed in (1, 1, 2)]
    assert runs[0].spans == runs[1].spans
    assert runs[0].spans != runs[2].spans


def test_every_media_ends_and_stations_are_busy_for_what_it_demands() -> None:
    exact = COSTS.model_copy(update={"kinds": {"film": KIND.model_copy(update={"stages": _exact()})}})
    site = Site(cpu_workers=2, gpu_workers=3, flows=2)
    run = simulate(exact, site, FILMS, FLAT)
    assert len(run.spans) == len(FILMS)
    for name, seconds in demand(exact, site, FILMS[0], FLAT).items():
        assert run.utilisation()[name] * run.servers[name] * run.snapshots[-1].time_s == pytest.approx(
            seconds * len(FILMS)
        )


def _exact() -> dict[str, StageCost]:
    return {name: cost.model_copy(update={"spread": (1.0,)}) for name, cost in STAGES.items()}


def test_a_media_alone_takes_its_longest_path() -> None:
    exact = COSTS.model_copy(update={"kinds": {"film": KIND.model_copy(update={"stages": _exact()})}})
    [(began, ended)] = simulate(exact, Site(cpu_workers=9, cores=99), FILMS[:1], FLAT).spans
    near, submits, worker = 0.06, 0.01, 0.01
    # Sound and pictures go on side by side; pictures take longer here.
    pictures = submits * 3 + (0.25 + worker) + (1.3 + worker)
    assert ended - began == pytest.approx(0.1 + 0.1 + 0.02 + near + pictures + submits + (0.1 + worker), abs=0.02)


def test_long_media_have_more_task_runs() -> None:
    assert [KIND.runs("detections", seconds) for seconds in (1, 64, 65, 6400)] == [1, 1, 2, 100]
    assert [KIND.runs("transcript", seconds) for seconds in (1, 480, 481)] == [1, 1, 2]
    assert KIND.runs("publish", 6400) == 1


def test_more_workers_are_never_slower_and_end_at_the_bottleneck() -> None:
    rates = []
    for workers in (1, 2, 4, 8, 16):
        site = Site(cpu_workers=workers, gpu_workers=workers, flows=2, in_flight=16)
        rates.append(steady(COSTS, site, FILM, FLAT, per_lane=15).rate)
    assert all(more >= (1 - TOLERANCE) * fewer for fewer, more in itertools.pairwise(rates))
    assert rates[1] == pytest.approx(2 * rates[0], rel=TOLERANCE)
    server_s = mean_demand(COSTS, Site(1, 1), FILM, FLAT)["server"]
    assert rates[-1] == pytest.approx(1 / server_s, rel=TOLERANCE)


def test_throughput_is_within_its_bounds_and_littles_law_holds_for_the_whole() -> None:
    site = Site(cpu_workers=3, gpu_workers=4, flows=1, in_flight=24)
    found = steady(COSTS, site, FILM, FLAT)
    demands = mean_demand(COSTS, site, FILM, FLAT)
    assert found.low <= found.rate <= found.high
    assert found.rate <= 1.02 * min(3 / demands["cpu"], 4 / demands["gpu"], 1 / demands["flow"], 1 / demands["server"])
    assert found.rate * found.latency_s == pytest.approx(site.lanes, rel=TOLERANCE)
    assert found.bottleneck == "GPU workers"


MARKET = Market(prices=Prices(), gpu=True, start_s=60.0, in_flight=10)


@pytest.mark.parametrize("hours", [2.0, 4.0])
def test_the_plan_is_the_cheapest_of_all_sites(hours: float) -> None:
    site, load = Site(1), replace(FILM, objects=6_000)
    plan = cheapest(COSTS, site, load, FLAT, hours * 3600, MARKET)
    assert plan.seconds <= hours * 3600
    for cpu, gpu, flows in itertools.product(range(1, 4), range(1, 5), range(1, 3)):
        cell = MARKET.cell(site, cpu, gpu, flows)
        if MARKET.hour_usd(cell) < plan.hour_usd - 1e-9:
            found = steady(COSTS, cell, load, FLAT)
            assert seconds_for(found, 1, load, MARKET.start_s) > hours * 3600, (cpu, gpu, flows)


def test_a_deadline_that_one_server_cannot_meet_takes_more_or_names_it() -> None:
    load = replace(FILM, objects=100_000)
    server_s = mean_demand(COSTS, Site(1, 1), load, FLAT)["server"]
    deadline_s = 60.0 + 0.9 * server_s * load.objects
    plan = cheapest(COSTS, Site(1), load, FLAT, deadline_s, MARKET)
    assert plan.cells >= 2
    assert plan.seconds <= deadline_s
    with pytest.raises(NoPlan, match="Prefect server"):
        cheapest(COSTS, Site(1), load, FLAT, deadline_s, replace(MARKET, most_cells=1))
    with pytest.raises(NoPlan, match="Starting"):
        cheapest(COSTS, Site(1), load, FLAT, 30.0, MARKET)


def both(line: Line) -> tuple[float, float]:
    return line.fixed, line.slope


def test_a_line_has_no_negative_part() -> None:
    assert both(fit_line([1, 2, 4], [3.0, 5.0, 9.0])) == pytest.approx((1.0, 2.0))
    assert fit_line([1, 2, 3], [3.0, 2.0, 1.0]).slope == 0.0
    assert fit_line([1, 2, 3], [0.0, 1.0, 2.0]).fixed == 0.0


def test_costs_are_found_again_in_what_a_backfill_measured() -> None:
    """Answers made from known costs, three of them with other numbers of objects and task runs."""
    answers = [_made("main", [2.0, 5.0, 9.0], 3), _made("apart", [1.0] * 12, 9), _made("few", [1.0] * 2, 3)]
    found = costs_of(1, [*answers, _made("together", [1.0] * 12, 3)])
    detections = found.kinds["film"].stages["detections"]
    assert both(detections.wall_s) == pytest.approx((0.1, 0.06))
    assert detections.share == pytest.approx(0.9)
    assert found.kinds["film"].stages["publish"].wall_s.fixed == pytest.approx(0.2)
    assert (detections.requests, found.overhead.flow_run_requests) == (4.0, 10.0)
    overhead = found.overhead
    assert overhead.task_run_worker_s == pytest.approx(0.01)
    assert (overhead.backfill_flow_cpu_s, overhead.flow_run_flow_cpu_s) == pytest.approx((0.5, 0.1))
    assert overhead.task_run_flow_cpu_s == pytest.approx(0.007)
    served_s = overhead.flow_run_server_cpu_s + overhead.flow_run_server_later_cpu_s
    assert (served_s, overhead.task_run_server_cpu_s) == pytest.approx((0.2, 0.04))
    # The gap between two media is 0.25 s: 0.1 s and 0.007 s of the flow, the rest of the server.
    assert overhead.flow_run_server_cpu_s == pytest.approx(0.143)
    assert overhead.flow_run_wait_s == 0.0


def _made(name: str, lengths: list[float], tasks_each: int) -> Answer:
    spans, media, now = [], [], 0.0
    for seconds in lengths:
        body = 0.1 + 0.06 * seconds
        for _ in range(tasks_each - 1):
            held = body / (tasks_each - 1) + 0.01
            spans.append(TaskSpan(name="detect_objects", worker="w", start=now, stop=now + held))
            now += held
        spans.append(TaskSpan(name="publish_result", worker="w", start=now, stop=now + 0.21))
        now += 0.21 + 0.25 + 0.06
        timing = {
            "fetch": StageTiming(wall_s=0.01, cpu_s=0.01, runs=1),
            "probe": StageTiming(wall_s=0.05, cpu_s=0.05, runs=1),
            "detections": StageTiming(wall_s=body, cpu_s=0.9 * body, runs=1),
            "publish": StageTiming(runs=1),
        }
        media.append(
            Sample(
                kind="film",
                seconds=seconds,
                bytes=1000,
                frames_run_s=64.0,
                speech_s=0.0,
                speech_run_s=240.0,
                timing=timing,
                publish_s=0.21,
            )
        )
    tasks = len(spans)
    cpu_s = {
        "flow": 0.5 + 0.1 * len(lengths) + 0.007 * tasks,
        "server": 0.3 + 0.2 * len(lengths) + 0.04 * tasks,
        "workers": sum(span.stop - span.start for span in spans),
    }
    return Answer(
        name=name,
        wall_s=now,
        cpu_s=cpu_s,
        tasks=spans,
        media=media,
        requests={"": 30, "detect_objects": 4 * (tasks - len(lengths))},
    )
