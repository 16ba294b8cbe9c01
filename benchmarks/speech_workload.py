"""A public workload, Whisper over clips: Reelflow against Ray Data, Daft, faster-whisper and whisper's own command.

The workload is `audio_transcription` of Daft's benchmarks, which ran it on Ray Data too: files of short clips,
features, Whisper in batches in one process per core, Parquet. Here the clips are sentences of the bundled sample in
FLAC files, and the weights are the bundled Whisper's with added layers that change nothing (answers right, cost of
Whisper tiny), float32, converted for each engine. Each side transcribes few and many clips; the difference is its
rate, so that nobody's start-up counts. Every side must give every word of every clip.

Reelflow runs twice: every file a media of its own in a backfill (with lease, tables, subtitles, report and commit for
each), and the same sentences as one recording, which is what its packing of neighbouring speech is made for.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import _media
from benchmarks._marginal import throughput
from benchmarks._results import Plot, Table, parser, publish
from benchmarks._sides import Job
from benchmarks.pipeline import check_same

SIDES = ("reelflow_speech", "ray_speech", "daft_speech", "faster_speech", "whisper_command")


def main(argv: Sequence[str]) -> None:
    """Runs all sides and prints rates and ratios."""
    options = parser("speech_workload", __doc__)
    options.add_argument("--clips", type=int, nargs=2, default=[16, 64], help="clips of the short and the long job")
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; medians count")
    arguments = options.parse_args(argv)
    yolo, whisper = _media.yolo_weights(), _media.deep_whisper()
    few, many = arguments.clips

    def files(folder: str, long: bool) -> Job:
        return Job([str(path) for path in _media.speech_clips(many if long else few)], str(yolo), str(whisper), folder)

    def recording(folder: str, long: bool) -> Job:
        return Job([str(_media.recording(many if long else few))], str(yolo), str(whisper), folder)

    apart = throughput(SIDES, files, (few, many), arguments.repeat, check_same)
    together = throughput(["reelflow_speech"], recording, (few, many), arguments.repeat, check_same)
    whole = [{"side": "reelflow_speech, one recording"} | {k: v for k, v in together[0].items() if k != "side"}]
    note = "An item is a clip. The last row has the same sentences in one file."
    table = Table("Clips transcribed per second", [*apart, *whole], note, [Plot("side", ["items/s"], "bar")])
    packages = ["ray", "daft", "transformers", "faster-whisper", "ctranslate2"]
    publish(arguments, "speech_workload", __doc__, [table], weights=[whisper], packages=packages)
