"""A public workload, YOLO11n over video frames: Reelflow against Ray Data and Daft, throughput without start-up.

The workload is `video_object_detection` of Daft's benchmarks, which ran it on Ray Data too: read videos, detect in
batches in one process per core, write Parquet. Frames keep their size (theirs were stretched to 640x640) and objects
are not cropped, so that all find the same. Two forms: one frame a second, and every frame. Each side runs a short and
a long video; the difference in frames over the difference in time is its rate, so that nobody's start-up counts. Ours
stores the frames as well, cached and addressed by content; the others keep only boxes.

Every side must have found ours before a rate is printed, as `pipeline` compares boxes: our frames went through JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import _media
from benchmarks._agreement import check_boxes
from benchmarks._marginal import throughput
from benchmarks._results import Plot, Table, parser, publish
from benchmarks._sides import Job
from tasks.core.models import bundled

SIDES = ("reelflow_video", "ray_video", "daft_video")
FORMS = {"one frame a second": ((1.0, 4.0), False, 60.0), "every frame": ((0.2, 0.6), True, 60.0 * _media.FPS)}
"""Minutes of the short and the long video, whether every frame counts, frames per minute."""


def main(argv: Sequence[str]) -> None:
    """Runs both forms and prints rates and ratios."""
    options = parser("video_workload", __doc__)
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; medians count")
    arguments = options.parse_args(argv)
    yolo, whisper = _media.yolo_weights(), bundled.SPEECH_CHECKPOINT
    tables = []
    for title, (minutes, every_frame, rate) in FORMS.items():

        def job(folder: str, long: bool, minutes: tuple[float, float] = minutes, every: bool = every_frame) -> Job:
            return Job([str(_media.long_video(minutes[long]))], str(yolo), str(whisper), folder, every)

        items = (round(minutes[0] * rate), round(minutes[1] * rate))
        rows = throughput(SIDES, job, items, arguments.repeat, check_boxes)
        tables.append(Table(title, rows, "An item is a frame in which objects were detected."))
    tables[0] = Table(tables[0].title, tables[0].rows, tables[0].note, [Plot("side", ["items/s"], "bar")])
    publish(arguments, "video_workload", __doc__, tables, weights=[yolo], packages=["ray", "daft", "decord"])
