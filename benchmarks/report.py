"""RESULTS.md and its plots, made from the JSON lines that benchmarks have kept (`--save`); runs no benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._results import FOLDER, Plot, Run, Table, markdown, read

RESULTS = FOLDER.parent / "RESULTS.md"
PLOTS = FOLDER.parent / "plots"
INTRODUCTION = """\
# Results

Made by `python -m benchmarks report` from `benchmarks/results/*.jsonl`; do not edit. Each section is one run of one
benchmark: its method, the command that repeats it (with `--save` to replace the figures), the machine and the versions.
Compare figures of one section with each other, not with those of another section: machines are noisy.
"""


def main(argv: Sequence[str]) -> None:
    """Writes RESULTS.md and the plots."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    arguments.parse_args(argv)
    runs = [read(path) for path in sorted(FOLDER.glob("*.jsonl"))]
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    RESULTS.write_text("\n".join([INTRODUCTION, *map(section, runs)]), encoding="utf-8")
    print(f"{RESULTS.name}: {len(runs)} benchmarks, {len(list(PLOTS.glob('*.svg')))} plots")


def section(run: Run) -> str:
    """One benchmark as Markdown; draws its plots on the way."""
    facts = [
        f"- Command: `{run.command}`, {run.date}, commit {run.commit}",
        "- Machine: " + ", ".join(f"{name} {value}" for name, value in run.machine.items()),
        "- Versions: " + ", ".join(f"{name} {value}" for name, value in run.versions.items()),
    ]
    if run.weights:
        facts.append("- Weights: " + ", ".join(f"{name} ({digest})" for name, digest in run.weights.items()))
    parts = [f"## {run.name}", run.method, "\n".join(facts)]
    for number, table in enumerate(run.tables):
        parts.append(markdown(table))
        for index, plot in enumerate(table.plots):
            path = PLOTS / f"{run.name}-{number}-{index}.svg"
            draw(table, plot, path)
            parts.append(f"![{table.title}: {', '.join(plot.y)} over {plot.x}]({PLOTS.name}/{path.name})")
    return "\n\n".join(parts) + "\n"


def draw(table: Table, plot: Plot, path: Path) -> None:
    """Writes one plot as SVG, the same bytes for the same figures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axes: Any = figure.add_subplot()
        series = _series(table, plot)
        for place, (name, points) in enumerate(series.items()):
            if plot.kind == "line":
                axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
                continue
            width = 0.8 / len(series)
            places = [index + (place - (len(series) - 1) / 2) * width for index in range(len(points))]
            axes.bar(places, [y for _, y in points], width=width, label=name)
            axes.set_xticks(range(len(points)), [str(x) for x, _ in points], rotation=20, ha="right")
        if plot.log_x:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        if plot.log_y:
            axes.set_yscale("log")
        axes.set(xlabel=plot.x, ylabel=plot.label or ", ".join(plot.y), title=table.title)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


def _series(table: Table, plot: Plot) -> dict[str, list[tuple[Any, Any]]]:
    found: dict[str, list[tuple[Any, Any]]] = {}
    for row in table.rows:
        for column in plot.y:
            if row.get(column) is None:
                continue
            name = str(row[plot.by]) if plot.by else column
            if plot.by and len(plot.y) > 1:
                name = f"{name}, {column}"
            found.setdefault(name, []).append((row[plot.x], row[column]))
    return found
