"""Ray Data's public video workload: `read_videos`, YOLO11n in an actor per core over batches, Parquet.

After `video_object_detection` in Daft's repository of benchmarks, with frames at their own size instead of stretched
to 640x640, and without the crops of the objects, so that all sides find the same. One frame a second is its reader's
`fps`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks._sides import CONFIDENCE, Found, Job, main

BATCH = 16


class Detector:
    """An actor that holds one model; a batch of RGB frames (B, H, W, 3) in, labels and boxes out."""

    def __init__(self, weights: str) -> None:
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(1)
        self.model: Any = YOLO(weights)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        frames = [frame[..., ::-1] for frame in batch["frame"]]
        results = self.model.predict(frames, conf=CONFIDENCE, verbose=False)
        labels = [[self.model.names[int(c)] for c in result.boxes.cls] for result in results]
        boxes = [result.boxes.xyxy.flatten().tolist() for result in results]
        return {"labels": labels, "boxes": boxes}


def ray_video(job: Job) -> Found:
    """Boxes of every frame, or of one a second."""
    from collections import Counter

    import pandas
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from tasks.threads import available_cores

    cores = available_cores()
    ray.init(num_cpus=2 * cores, include_dashboard=False, log_to_driver=False, logging_level="error")
    DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    options: dict[str, Any] = {} if job.every_frame else {"fps": 1}
    frames = _read_videos(list(job.sources), **options)
    found = frames.map_batches(
        Detector, fn_constructor_args=(job.yolo,), batch_size=BATCH, compute=ActorPoolStrategy(size=cores)
    )
    found.write_parquet(job.folder)
    seconds = time.perf_counter() - started
    labels = [row for file in Path(job.folder).rglob("*.parquet") for row in pandas.read_parquet(file)["labels"]]
    ray.shutdown()
    return Found(seconds, dict(Counter(label for row in labels for label in row)))


def _read_videos(paths: list[str], **options: Any) -> Any:
    """`read_videos`; its `fps` is an argument of the source alone."""
    import ray
    from ray.data._internal.datasource.video_datasource import VideoDatasource

    return ray.data.read_datasource(VideoDatasource(paths, **options))


if __name__ == "__main__":
    main(ray_video)
