"""The whole pipeline on ten minutes of media, against the bare engines, a plain script and the sequential eight stages.

One 1280x720 H.264 video with speech throughout (real videos and the bundled sample's sentences, repeated), YOLO11n,
and the bundled Whisper with added layers that change nothing, so that its answers are right and its cost is that of
Whisper tiny. Each side runs in a process of its own, with its models loaded and used once before its time starts, on
all cores:

- engines: Reelflow's functions with its batches in one process per core, without Prefect, Dask or store. No frame,
  clip, table or report is written: what `reelflow` takes longer is orchestration, storage and publishing.
- reelflow: one `analyze-media` run on a warm engine, clips off, as in script and engines. With clips: all stages.
- script: every frame decoded, one frame and one stretch of speech at a time, as the libraries' READMEs show.
- eight stages: the sequential pipeline that came before, each stage finished and stored before the next starts, one
  clip and one frame at a time, every frame an object of its own.

All must have found the same before a time is printed: every word, and boxes per class within 2 or 5% (stored frames
are JPEG). The eight stages may differ in one word of twenty, for they hear sound that was compressed twice; they run on
shorter media, because of the time that they take.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence

from benchmarks import _media, _sides
from benchmarks._results import Plot, Row, Table, median, parser, publish
from benchmarks._sides import Found, Job

SIDES = {"whole": ("reelflow", "engine_loop", "plain_script"), "stages": ("reelflow_clips", "eight_stages")}
COUNT_TOLERANCE = 0.05
WORD_TOLERANCE = {"eight_stages": 0.05}
"""It hears sound that was compressed twice."""


def main(argv: Sequence[str]) -> None:
    """Runs the sides in turn, checks that they agree, and prints times and ratios."""
    options = parser("pipeline", __doc__)
    options.add_argument("--minutes", type=float, default=10.0, help="length of the media for engines and script")
    options.add_argument("--stages-minutes", type=float, default=3.0, help="length for the eight stages")
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; medians count")
    arguments = options.parse_args(argv)
    yolo, whisper = _media.yolo_weights(), _media.deep_whisper()
    made = []
    for group, minutes in (("whole", arguments.minutes), ("stages", arguments.stages_minutes)):
        source = str(_media.long_video(minutes))
        found: dict[str, list[Found]] = {name: [] for name in SIDES[group]}
        for _ in range(arguments.repeat):
            for name, runs in found.items():
                with tempfile.TemporaryDirectory() as folder:
                    runs.append(_sides.run(name, Job([source], str(yolo), str(whisper), folder)))
                print(f"{name}, {minutes:g} minutes: {runs[-1].seconds:.1f} s", file=sys.stderr, flush=True)
                check_same(name, runs[-1], found[SIDES[group][0]][0])
        made += tables(found, minutes)
    publish(arguments, "pipeline", __doc__, made, weights=[yolo, whisper])


def check_same(name: str, found: Found, other: Found) -> None:
    """Raises AssertionError where two sides found different things."""
    apart = word_distance(found.words, other.words)
    most = WORD_TOLERANCE.get(name, 0.0) * len(other.words)
    assert apart <= most, f"{name}: {apart} of {len(other.words)} words differ: {' '.join(found.words)[:500]}"
    for label in found.classes.keys() | other.classes.keys():
        one, two = found.classes.get(label, 0), other.classes.get(label, 0)
        most = max(2, COUNT_TOLERANCE * max(one, two))
        assert abs(one - two) <= most, f"{name}: {label} {one}, others {two}"


def word_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest words to add, drop or change that make one text the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, against in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != against))
    return row[-1]


def tables(found: Mapping[str, Sequence[Found]], minutes: float) -> list[Table]:
    """Times as multiples of the first side's, and where each side's time goes."""
    seconds = {name: median(run.seconds for run in runs) for name, runs in found.items()}
    ours = next(iter(seconds.values()))
    rows: list[Row] = [
        {
            "side": name,
            "wall s": taken,
            "times ours": taken / ours,
            "times real time": 60 * minutes / taken,
            "words": len(found[name][0].words),
            "boxes": sum(found[name][0].classes.values()),
        }
        for name, taken in seconds.items()
    ]
    parts = [{"side": name} | dict(runs[0].parts) for name, runs in found.items() if runs[0].parts]
    return [
        Table(f"{minutes:g} minutes of media", rows, "", [Plot("side", ["wall s"], "bar", label="wall seconds")]),
        Table(
            f"Seconds by stage, {minutes:g} minutes", parts, "Of Reelflow's workers together: they work side by side."
        ),
    ]
