"""What every benchmark does with its figures: print them, keep them as JSON lines, say on what they were taken.

A file `benchmarks/results/NAME.jsonl` holds one run of one benchmark: a line that says when, where and how, then a
line for each table with its rows. `python -m benchmarks report` makes RESULTS.md and the plots from these files alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("prefect", "distributed", "torch", "openvino", "ultralytics", "openai-whisper", "av", "imageio-ffmpeg")
"""Named with every run; a benchmark adds those that it compares with."""

Row = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Plot:
    """How a table is drawn: `y` columns over column `x`, one line or bar for each, or for each value of `by`."""

    x: str
    y: Sequence[str]
    kind: Literal["line", "bar"] = "line"
    by: str | None = None
    log_x: bool = False
    log_y: bool = False
    label: str = ""
    """What the y axis shows, with its unit."""


@dataclass(frozen=True)
class Table:
    """Rows that belong together; columns are named with their units."""

    title: str
    rows: Sequence[Row]
    note: str = ""
    """What the figures mean, in Markdown: shown below the table."""
    plots: Sequence[Plot] = ()


@dataclass(frozen=True)
class Run:
    """One benchmark's tables, and what they were taken on."""

    name: str
    method: str
    command: str
    date: str
    commit: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    weights: Mapping[str, str]
    """SHA-256 of the weights that were used (first 12 digits), by file name."""
    tables: Sequence[Table] = field(default_factory=list)


def parser(name: str, method: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has; `method` is its module's docstring."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=method, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    made.add_argument("--save", action="store_true", help=f"keep the figures in benchmarks/{FOLDER.name}/{name}.jsonl")
    return made


def publish(
    arguments: argparse.Namespace,
    name: str,
    method: str | None,
    tables: Sequence[Table],
    *,
    weights: Iterable[Path] = (),
    packages: Iterable[str] = (),
) -> None:
    """Prints the tables and, with --save, keeps them."""
    run = Run(
        name=name,
        method=(method or "").strip(),
        command=shlex.join(["python", "-m", "benchmarks", *(_nameless(word) for word in sys.argv[1:])]),
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        machine=machine(),
        versions=_versions([*PACKAGES, *packages]),
        weights={path.name: _digest(path) for path in weights},
        tables=tables,
    )
    lines = list(_lines(run))
    if arguments.save:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print("\n".join(lines) if arguments.json else "\n\n".join(map(markdown, tables)))


def read(path: Path) -> Run:
    """The run that a file of FOLDER holds."""
    head, *tables = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    made = [Table(**table | {"plots": [Plot(**plot) for plot in table["plots"]]}) for table in tables]
    return Run(**head, tables=made)


def markdown(table: Table) -> str:
    """A table with its title and note; columns in the order in which the rows first name them."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    lines = [f"**{table.title}**", "", _line(columns), "|" + "---|" * len(columns)]
    lines += [_line([_cell(row.get(name)) for name in columns]) for row in table.rows]
    return "\n".join([*lines, "", table.note] if table.note else lines)


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated. Raises ValueError for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a percentile of")
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Iterable[float]) -> float:
    """The middle value; the mean of the two middle ones."""
    return percentile(values, 0.5)


def machine() -> dict[str, str]:
    """Processor, usable cores, memory, GPU and system of this machine."""
    facts = dict(line.split(":", 1) for line in _read("/proc/cpuinfo").splitlines() if ":" in line)
    names = {name.strip(): value.strip() for name, value in facts.items()}
    flags = names.get("flags", "").split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "processor": names.get("model name", platform.processor()),
        "vectors": next((f for f in ("avx512_vnni", "avx512f", "avx2") if f in flags), "none known"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }
    import torch

    found["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found


def _lines(run: Run) -> Iterable[str]:
    head = asdict(run)
    tables = head.pop("tables")
    return [json.dumps(entry, ensure_ascii=False) for entry in (head, *tables)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _nameless(word: str) -> str:
    """Files by their names: where they lie is this machine's own."""
    return Path(word).name if os.sep in word and Path(word).exists() else word


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=FOLDER.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
