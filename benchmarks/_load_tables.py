"""The tables of a load test, made from its levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks._latency import SHARES, VCPU_HOUR_USD, Level, failures, growth, p95, stages, summary
from benchmarks._results import Plot, Row, Table, median

EARLIER_NOTE = (
    "Theirs as they published it, for media, models and hardware of their own; ours with small models on the cores "
    "that are named above. It places the figures, it does not compare the systems."
)


def tables(levels: Sequence[Level]) -> list[Table]:
    """Latency, failures (where there are any), time by stage, CPU by part, growth (where the load was closed)."""
    assert levels, "no level was run"
    shapes = dict.fromkeys((level.pattern, level.target, level.regime) for level in levels)
    made: list[Table] = []
    for shape in shapes:
        chosen = [level for level in levels if (level.pattern, level.target, level.regime) == shape]
        made.append(_latency_table(chosen, " ".join([f"{shape[0]},", shape[1], f"({shape[2]})"])))
        if shape[0] == "closed" and len(chosen) > 1:
            made.append(_growth_table(chosen))
    lost: list[Row] = [
        {"level": name, "status": s, "requests": n, "reason": why} for name, s, why, n in failures(levels)
    ]
    if lost:
        made.append(Table("Requests that did not succeed", lost))
    made += [_stage_table(levels), _cpu_table(levels)]
    if compared := list(_compared(levels)):
        made.append(Table("Beside an earlier system", compared, EARLIER_NOTE))
    return made


def _compared(levels: Sequence[Level]) -> Iterator[Row]:
    """What an earlier system published, where there is a level to compare."""
    for level in levels:
        warm = level.target == "served"
        found = summary(level)
        if level.pattern == "closed" and level.concurrency == 1 and warm:
            yield _row("one warm request, median s", "8.8", found["latency median s"], level)
        if level.pattern == "closed" and level.concurrency == 1 and level.regime == "cold":
            yield _row("cold start: the first request, s", "15 to 20", level.requests[0].latency_s, level)
        if level.pattern == "steady" and level.rate == 1.0:
            yield _row("success at 1 request/s, %", "1.7", found["success %"], level)
        if level.pattern == "closed" and level.concurrency == 64 and warm:
            yield _row("requests/s at 64 users", "67.6 on many GPUs", found["done/s"], level)
            yield _row("median at 64 users, s", "0.97 on many GPUs", found["latency median s"], level)


def _row(figure: str, theirs: str, ours: float | int | str | None, level: Level) -> Row:
    return {
        "figure": figure,
        "theirs": theirs,
        "ours": ours,
        "ours is": f"{level.label}, {level.target}, {level.regime}",
    }


def _latency_table(levels: Sequence[Level], title: str) -> Table:
    closed = levels[0].pattern == "closed"
    x = "concurrency" if closed else "rate/s"
    rows: list[Row] = [
        {"level": level.label, x: level.concurrency if closed else level.rate} | summary(level) for level in levels
    ]
    plots = [
        Plot(x, [f"latency {name} s" for name in SHARES], log_x=True, log_y=True, label="seconds"),
        Plot(x, ["done/s"], log_x=True, label="requests per second"),
    ]
    note = (
        "latency: from arrival to the end of the flow run; queue: until it was taken; start-up: until the flow began. "
        f"$/media hour: CPU seconds of the stages, and all {levels[0].cores} cores for the whole time, at "
        f"{VCPU_HOUR_USD:.4f} $ per core and hour."
    )
    return Table(f"Latency: {title}", rows, note, plots if len(levels) > 1 else ())


def _growth_table(levels: Sequence[Level]) -> Table:
    best = 0.0
    rows: list[Row] = []
    for level, exponent in zip(levels, growth(levels), strict=True):
        best = max(best, level.throughput)
        rows.append(
            {
                "concurrency": level.concurrency,
                "done/s": level.throughput,
                "share of the best so far": level.throughput / best if best else 0.0,
                "p95 s": p95(level),
                "p95 s / concurrency": p95(level) / level.concurrency,
                "p95 exponent": exponent,
                "Little's law s": level.concurrency / level.throughput if level.throughput else None,
            }
        )
    note = (
        "The exponent compares p95 with the level before (1: doubled users, doubled latency). Little's law: the mean "
        "latency that so many users must have at this throughput, since each of them always waits."
    )
    return Table("Growth with concurrency", rows, note)


def _stage_table(levels: Sequence[Level]) -> Table:
    rows: list[Row] = []
    for level in levels:
        rows += [{"level": level.label, "stage": name, **found} for name, found in stages(level).items()]
        if level.done:
            rows.append({"level": level.label, "stage": "(between)", "wall s": median(r.between_s for r in level.done)})
    note = (
        "Medians over successful requests; `starts at` counts from the start of the flow run. (between): seconds of a "
        "run in which none of its stages ran: engine, scheduler, network."
    )
    return Table("Time by stage", rows, note)


def _cpu_table(levels: Sequence[Level]) -> Table:
    parts = list(dict.fromkeys(part for level in levels for part in level.cpu_s))
    rows: list[Row] = []
    for level in levels:
        each = {part: level.cpu_s.get(part, 0.0) / len(level.requests) for part in parts}
        busy = sum(level.cpu_s.values()) / (level.cores * level.wall_s) if level.wall_s else 0.0
        rows.append({"level": level.label, **each, "total": sum(each.values()), "cores busy %": 100 * busy})
    return Table(
        "CPU seconds per request, by part", rows, "Measured from /proc during the level, processes that ended included."
    )
