"""Daft's public video workload: `read_video_frames`, YOLO11n in a process per core over batches, Parquet.

After `video_object_detection` in Daft's repository of benchmarks, with frames at their own size instead of stretched to
640x640, and without the crops of the objects, so that all sides find the same. Its reader has no rate: for one frame a
second the others are left out before the detector.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._sides import CONFIDENCE, Found, Job, main

BATCH = 16


def daft_video(job: Job) -> Found:
    """Boxes of every frame, or of one a second."""
    import av
    import daft
    import pandas
    from daft import DataType, col

    from tasks.threads import available_cores

    @daft.cls(max_concurrency=available_cores(), use_process=True)
    class Detector:
        def __init__(self, weights: str) -> None:
            import torch
            from ultralytics import YOLO

            torch.set_num_threads(1)
            self.model: Any = YOLO(weights)

        @daft.method.batch(return_dtype=DataType.list(DataType.string()), batch_size=BATCH)  # type: ignore[untyped-decorator]
        def detect(self, frames: Any) -> Any:
            images = [frame[..., ::-1] for frame in frames.to_pylist()]
            if not images:
                return []
            results = self.model.predict(images, conf=CONFIDENCE, verbose=False)
            return [[self.model.names[int(c)] for c in result.boxes.cls] for result in results]

    with av.open(job.sources[0]) as container:
        stream = container.streams.video[0]
        width, height, fps = stream.width, stream.height, float(stream.average_rate or 25)
    started = time.perf_counter()
    frames = daft.read_video_frames(list(job.sources), image_height=height, image_width=width)
    if not job.every_frame:
        frames = frames.where(col("frame_index") % round(fps) == 0)
    found = frames.with_column("labels", Detector(job.yolo).detect(col("data"))).exclude("data")
    found.write_parquet(job.folder)
    seconds = time.perf_counter() - started
    labels = [row for file in Path(job.folder).rglob("*.parquet") for row in pandas.read_parquet(file)["labels"]]
    return Found(seconds, dict(Counter(label for row in labels if row is not None for label in row)))


if __name__ == "__main__":
    main(daft_video)
