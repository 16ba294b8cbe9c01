"""The whole pipeline on ten minutes of media, against the bare engines, a plain script and the sequential eight stages.

One 1280x720 H.264 video with speech throughout: real videos, sentences of the test media's real speech in turn, YOLO11n
and OpenAI's tiny.en. `--speech bundled` takes the bundled sample's sentences instead, and the bundled Whisper with
added layers that change nothing, at the cost of Whisper tiny: it runs without real weights. Each side runs in a process
of its own, with its models loaded and used once before its time starts, on all cores:

- engines: Reelflow's functions with its batches in one process per core, without Prefect, Dask or store. No frame,
  clip, table or report is written: what `reelflow` takes longer is orchestration, storage and publishing.
- reelflow: one `analyze-media` run on a warm engine, clips off, as in script and engines. With clips: all stages.
- script: every frame decoded, one frame and one stretch of speech at a time, as the libraries' READMEs show.
- eight stages: the sequential pipeline that came before, each stage finished and stored before the next starts, one
  clip and one frame at a time, every frame an object of its own.

All must have done the same work before a time is printed. Words: at most a quarter of those that were said are wrong
with tiny.en, whoever heard them, and none with the bundled weights; the eight stages, which hear sound that was
compressed twice, may have one of twenty more. Boxes: of those of confidence 0.5 or more on one side at most 2% lack a
partner on the other in the same frame, of the same class, at an IoU of 0.5 or more and a confidence of 0.35 or more;
boxes nearer to that threshold come and go with backend and machine. The eight stages run on shorter media, because of
the time that they take.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence

from benchmarks import _media, _sides
from benchmarks._agreement import check_boxes, check_words
from benchmarks._results import Plot, Row, Table, median, parser, publish
from benchmarks._sides import Found, Job
from benchmarks._spoken import VOICES, best_voice, spoken
from benchmarks._word_errors import word_errors

SIDES = {"whole": ("reelflow", "engine_loop", "plain_script"), "stages": ("reelflow_clips", "eight_stages")}
WRONG_BESIDES = {"eight_stages": 0.05}
"""Share of words that it may get wrong besides: it hears sound that was compressed twice."""


def main(argv: Sequence[str]) -> None:
    """Runs the sides in turn, checks that they agree, and prints times and ratios."""
    options = parser("pipeline", __doc__)
    options.add_argument("--minutes", type=float, default=10.0, help="length of the media for engines and script")
    options.add_argument("--stages-minutes", type=float, default=3.0, help="length for the eight stages")
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; medians count")
    options.add_argument("--speech", choices=VOICES, help="default: tiny.en where there are weights, else bundled")
    arguments = options.parse_args(argv)
    yolo, speech = _media.yolo_weights(), spoken(arguments.speech or best_voice())
    made = []
    for group, minutes in (("whole", arguments.minutes), ("stages", arguments.stages_minutes)):
        track, said = speech.track(minutes * 60)
        source = str(_media.long_video(minutes, track))
        found: dict[str, list[Found]] = {name: [] for name in SIDES[group]}
        for _ in range(arguments.repeat):
            for name, runs in found.items():
                with tempfile.TemporaryDirectory() as folder:
                    runs.append(_sides.run(name, Job([source], str(yolo), str(speech.whisper), folder)))
                print(f"{name}, {minutes:g} minutes: {runs[-1].seconds:.1f} s", file=sys.stderr, flush=True)
                check_words(name, runs[-1], said, speech.wrong + WRONG_BESIDES.get(name, 0.0))
                check_boxes(name, runs[-1], found[SIDES[group][0]][0])
        made += tables(found, minutes, said)
    publish(arguments, "pipeline", __doc__, made, weights=[yolo, speech.whisper])


def tables(found: Mapping[str, Sequence[Found]], minutes: float, said: str) -> list[Table]:
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
            "word errors": word_errors(said, " ".join(found[name][0].words))[0],
            "boxes": len(found[name][0].boxes),
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
