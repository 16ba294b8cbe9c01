"""A public workload, Whisper over clips: Reelflow against Ray Data, Daft, faster-whisper and whisper's own command.

The workload is `audio_transcription` of Daft's benchmarks, which ran it on Ray Data too: files of short clips,
features, Whisper in batches in one process per core, Parquet. Here the clips are sentences of the test media's real
speech in FLAC files, and the weights OpenAI's tiny.en, float32, converted for each engine. `--speech bundled` takes the
bundled sample's sentences and the bundled Whisper with added layers that change nothing (answers right, cost of Whisper
tiny), as where there are no real weights. Each side transcribes few and many clips; the difference is its rate, so that
nobody's start-up counts. Every side is held against what was said: at most a quarter of the words may be wrong with
tiny.en, none with the bundled weights.

Reelflow runs twice: every file a media of its own in a backfill (with lease, tables, subtitles, report and commit for
each), and the same sentences as one recording, which is what its packing of neighbouring speech is made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import _media
from benchmarks._agreement import check_words
from benchmarks._marginal import throughput
from benchmarks._results import Plot, Table, parser, publish
from benchmarks._sides import Found, Job
from benchmarks._spoken import VOICES, best_voice, spoken

SIDES = ("reelflow_speech", "ray_speech", "daft_speech", "faster_speech", "whisper_command")


def main(argv: Sequence[str]) -> None:
    """Runs all sides and prints rates and ratios."""
    options = parser("speech_workload", __doc__)
    options.add_argument("--clips", type=int, nargs=2, default=[16, 64], help="clips of the short and the long job")
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; medians count")
    options.add_argument("--speech", choices=VOICES, help="default: tiny.en where there are weights, else bundled")
    arguments = options.parse_args(argv)
    yolo, speech = _media.yolo_weights(), spoken(arguments.speech or best_voice())
    few, many = arguments.clips
    _, said = speech.clips(many)

    def job(sources: Sequence[Path], folder: str) -> Job:
        return Job([str(path) for path in sources], str(yolo), str(speech.whisper), folder, arguments=speech.reelflow)

    def files(folder: str, long: bool) -> Job:
        return job(speech.clips(many if long else few)[0], folder)

    def recording(folder: str, long: bool) -> Job:
        return job([speech.recording(many if long else few)[0]], folder)

    def check(name: str, found: Found, _first: Found) -> None:
        check_words(name, found, said, speech.wrong)

    apart = throughput(SIDES, files, (few, many), arguments.repeat, check)
    together = throughput(["reelflow_speech"], recording, (few, many), arguments.repeat, check)
    whole = [{"side": "reelflow_speech, one recording"} | {k: v for k, v in together[0].items() if k != "side"}]
    note = "An item is a clip. The last row has the same sentences in one file."
    table = Table("Clips transcribed per second", [*apart, *whole], note, [Plot("side", ["items/s"], "bar")])
    packages = ["ray", "daft", "transformers", "faster-whisper", "ctranslate2"]
    publish(arguments, "speech_workload", __doc__, [table], weights=[speech.whisper], packages=packages)
