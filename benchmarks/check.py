"""Has anything become slow? Five short ratios against floors, in less than four minutes on two quiet cores.

Each ratio is CPU seconds of a bare reference over CPU seconds of Reelflow for the same work, taken in the same run, so
that it holds on any machine and near a busy neighbour; higher is better. It reads nothing but what is bundled:

- pipeline: one run over a minute and a half of the bundled sample, against its engines called in one process.
- small files: a backfill of videos of four frames, likewise.
- task overhead: an empty task through Reelflow's Dask runner, against prefect-dask's own.
- search: a question by meaning to an index of 40,000 vectors, against comparison with each of them in NumPy.
- ingest: a recording cut into windows of 3 s, against PyAV copying its packets into one file.

Floors are in `results/floors.json`. Below one it ends with status 1 and says what to look at; where a change is worth
its cost, lower the floor in the same commit and say why there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._ratios import MEASURES, Ratio, warm_engine
from benchmarks._results import FOLDER, Table, parser, publish

FLOORS = FOLDER / "floors.json"


def main(argv: Sequence[str]) -> None:
    """Takes the ratios and holds them against the floors. Raises SystemExit where one is below."""
    options = parser("check", __doc__)
    options.add_argument(
        "--only", nargs="+", choices=sorted(MEASURES), default=list(MEASURES), help="these ratios only"
    )
    arguments = options.parse_args(argv)
    floors: dict[str, float] = json.loads(FLOORS.read_text(encoding="utf-8"))
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    ratios = {}
    with tempfile.TemporaryDirectory(prefix="reelflow-check-") as folder, warm_engine(arguments.only, Path(folder)):
        for name in arguments.only:
            started = time.monotonic()
            ratios[name] = MEASURES[name](Path(folder))
            print(
                f"{name}: {ratios[name].value:.3g} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True
            )
    rows = [
        {"ratio": name, "CPU s, bare": found.bare_s, "CPU s, ours": found.ours_s, "bare / ours": found.value,
         "floor": floors.get(name)}
        for name, found in ratios.items()
    ]  # fmt: skip
    publish(arguments, "check", __doc__, [Table("Ratios and their floors", rows)])
    if complaints := missed(ratios, floors):
        raise SystemExit("\n".join(complaints))


def missed(ratios: Mapping[str, Ratio], floors: Mapping[str, float]) -> list[str]:
    """A sentence for each ratio that is below its floor, or has none."""
    said = []
    for name, found in ratios.items():
        floor = floors.get(name)
        if floor is None:
            said.append(f"bench-check: {name} has no floor: give it one in benchmarks/results/{FLOORS.name}.")
        elif not found.value >= floor:
            said.append(
                f"bench-check: {name} is {found.value:.3g}, its floor is {floor:.3g}: {found.ours_s:.3g} CPU s, and "
                f"{found.bare_s:.3g} of a bare reference. See what has become slow with `python -m benchmarks "
                f"{found.look}`, or lower the floor in benchmarks/results/{FLOORS.name} in the commit that is worth it."
            )
    return said
