"""The report page of a load test: one self-contained HTML file with plots, no script, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks._charts import Chart, line_chart, stacked_rows
from benchmarks._latency import DONE, SHARES, Level, in_system, stages, summary
from benchmarks._load_tables import tables
from benchmarks._results import percentile

HERE = Path(__file__).parent
GANTT_PX = 900
"""Longest that the plot of a level's requests may be."""


def page(levels: Sequence[Level], facts: Mapping[str, str]) -> str:
    """The page as HTML text (UTF-8 to be); `facts` name the machine and the versions."""
    css = (HERE / "_load_page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    return environment.get_template("_load_page.html").render(
        css=Markup(css),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        facts=facts,
        figures=_figures(levels),
        shapes=[_shape(chosen) for chosen in _by_shape(levels)],
        levels=[_level(level) for level in levels],
        tables=[_table(table) for table in tables(levels)],
    )


def figure(value: Any) -> str:
    """A cell's text: four digits of a float, nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(levels: Sequence[Level]) -> list[tuple[str, str, str]]:
    """(label, figure, remark) of what is to be read first."""
    requests = [request for level in levels for request in level.requests]
    done = sum(request.status == DONE for request in requests)
    best = max(levels, key=lambda level: level.throughput)
    summaries = [(level, summary(level)) for level in levels]
    fastest = min(summaries, key=lambda pair: pair[1]["latency median s"] or float("inf"))
    slowest = max(summaries, key=lambda pair: pair[1]["latency p95 s"] or 0.0)
    cpu = sum(sum(level.cpu_s.values()) for level in levels) / len(requests)
    return [
        ("Requests", str(len(requests)), f"in {len(levels)} levels"),
        ("Success", f"{done / len(requests):.1%}", f"{len(requests) - done} did not succeed"),
        ("Best throughput", f"{best.throughput:.2f}/s", best.label),
        ("Shortest median", f"{fastest[1]['latency median s']:.2f} s", fastest[0].label),
        ("Longest p95", f"{slowest[1]['latency p95 s']:.1f} s", slowest[0].label),
        ("CPU", f"{cpu:.2f} s", "per request, all parts"),
    ]


def _by_shape(levels: Sequence[Level]) -> list[list[Level]]:
    found: dict[tuple[str, str, str], list[Level]] = {}
    for level in levels:
        found.setdefault((level.pattern, level.target, level.regime), []).append(level)
    return list(found.values())


def _shape(levels: Sequence[Level]) -> dict[str, Any]:
    """Plots over the levels of one pattern, target and regime."""
    first = levels[0]
    closed = first.pattern == "closed"
    x_label = "users" if closed else "requests per second"
    charts: list[Chart] = []
    if len({level.concurrency if closed else level.rate for level in levels}) > 1:
        at = {id(level): float(level.concurrency if closed else level.rate) for level in levels}
        latency = {
            name: [(at[id(level)], percentile(_latencies(level), share)) for level in levels]
            for name, share in SHARES.items()
        }
        if closed:
            latency["users / throughput"] = [(at[id(level)], level.concurrency / level.throughput) for level in levels]
        rate = {"done": [(at[id(level)], level.throughput) for level in levels]}
        success = {"done": [(at[id(level)], 100 * len(level.done) / len(level.requests)) for level in levels]}
        charts += [
            line_chart("Latency", latency, x_label, "seconds", log_x=True, log_y=True),
            line_chart("Throughput", rate, x_label, "requests per second", log_x=True),
            line_chart("Success", success, x_label, "percent", log_x=True),
        ]
    spread = {level.label: _distribution(_latencies(level)) for level in levels}
    charts.append(line_chart("Distribution of latency", spread, "seconds", "share of requests", dots=False, steps=True))
    charts.append(_cpu(levels))
    return {"name": f"{first.pattern}, {first.target}, {first.regime}", "charts": charts}


def _level(level: Level) -> dict[str, Any]:
    """Plots of one level: its requests, its queue, its stages."""
    beginning = min(request.arrived for request in level.requests)
    rows = []
    for request in sorted(level.requests, key=lambda r: r.arrived):
        marks = [request.arrived, request.taken, request.started, request.ended]
        known = [mark - beginning for mark in marks if mark is not None]
        names = ["waits", "starts", "runs" if request.status == DONE else request.status]
        pieces = [(name, start, end) for name, (start, end) in zip(names, pairwise(known), strict=False)]
        rows.append((str(request.number), pieces))
    changes = in_system(level)
    counts = {
        "waiting": [(at, float(waiting)) for at, waiting, _ in changes],
        "running": [(at, float(running)) for at, _, running in changes],
    }
    charts = [
        stacked_rows("Each request", rows, "seconds", row_px=max(3, min(16, GANTT_PX // len(rows)))),
        line_chart("In the system", counts, "seconds", "requests", dots=False, steps=True),
    ]
    if found := stages(level):
        bars = [(n, [(n, f["starts at s"], f["starts at s"] + f["wall s"])]) for n, f in found.items()]
        charts.append(stacked_rows("Stages of a run, medians", bars, "seconds after the run's start"))
    name = f"{level.label}, {level.target}, {level.regime}"
    return {"name": name, "charts": charts, "remark": f"{len(level.done)} of {len(level.requests)} succeeded"}


def _cpu(levels: Sequence[Level]) -> Chart:
    rows = []
    for level in levels:
        total, pieces = 0.0, []
        for part, seconds in level.cpu_s.items():
            each = seconds / len(level.requests)
            pieces.append((part, total, total + each))
            total += each
        rows.append((level.label, pieces))
    return stacked_rows("CPU per request, by part", rows, "CPU seconds")


def _latencies(level: Level) -> list[float]:
    return [request.latency_s for request in level.requests if request.latency_s is not None]


def _distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    ordered = sorted(values)
    return [(ordered[0], 0.0), *((value, (number + 1) / len(ordered)) for number, value in enumerate(ordered))]


def _table(table: Any) -> dict[str, Any]:
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    rows = [[row.get(name) for name in columns] for row in table.rows]
    return {"title": table.title, "note": table.note, "columns": columns, "rows": rows}
