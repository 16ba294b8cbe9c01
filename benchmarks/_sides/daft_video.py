"""Daft's public video workload: `read_video_frames`, YOLO11n in a process per core over batches, Parquet.

After `video_object_detection` in Daft's repository of benchmarks, with frames at their own size instead of stretched to
640x640, and without the crops of the objects, so that all sides find the same. Its reader has no rate: for one frame a
second the others are left out before the detector.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks._sides import Found, Job, main
from benchmarks._sides._frames import BATCH, Detector, stored_boxes


def daft_video(job: Job) -> Found:
    """Boxes of every frame, or of one a second."""
    import av
    import daft
    from daft import DataType, col

    from tasks.workers.threads import available_cores

    numbers = DataType.list(DataType.float64())
    record = DataType.struct({"label": DataType.string(), "confidence": DataType.float64(), "xyxy": numbers})

    @daft.cls(max_concurrency=available_cores(), use_process=True)
    class Objects:
        def __init__(self, weights: str) -> None:
            self.detector = Detector(weights)

        @daft.method.batch(return_dtype=DataType.list(record), batch_size=BATCH)  # type: ignore[untyped-decorator]
        def detect(self, frames: Any) -> Any:
            images = frames.to_pylist()
            return self.detector.rows(images) if images else []

    with av.open(job.sources[0]) as container:
        stream = container.streams.video[0]
        width, height, fps = stream.width, stream.height, float(stream.average_rate or 25)
    started = time.perf_counter()
    frames = daft.read_video_frames(list(job.sources), image_height=height, image_width=width)
    if not job.every_frame:
        frames = frames.where(col("frame_index") % round(fps) == 0)
    found = frames.with_column("found", Objects(job.yolo).detect(col("data"))).exclude("data")
    found.write_parquet(job.folder)
    seconds = time.perf_counter() - started
    return Found(seconds, stored_boxes(Path(job.folder)))


if __name__ == "__main__":
    main(daft_video)
