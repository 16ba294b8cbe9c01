"""Ray Data's public video workload: `read_videos`, YOLO11n in an actor per core over batches, Parquet.

After `video_object_detection` in Daft's repository of benchmarks, with frames at their own size instead of stretched
to 640x640, and without the crops of the objects, so that all sides find the same. One frame a second is its reader's
`fps`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks._sides import Found, Job, main
from benchmarks._sides._frames import BATCH, Detector, stored_boxes


class Actor(Detector):
    """Holds one model; a batch of numbered RGB frames (B, H, W, 3) in, their boxes out."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"frame_index": batch["frame_index"], "found": self.rows(batch["frame"])}


def ray_video(job: Job) -> Found:
    """Boxes of every frame, or of one a second."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from tasks.workers.threads import available_cores

    cores = available_cores()
    ray.init(num_cpus=2 * cores, include_dashboard=False, log_to_driver=False, logging_level="error")
    DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    options: dict[str, Any] = {} if job.every_frame else {"fps": 1}
    frames = _read_videos(list(job.sources), **options)
    found = frames.map_batches(
        Actor, fn_constructor_args=(job.yolo,), batch_size=BATCH, compute=ActorPoolStrategy(size=cores)
    )
    found.write_parquet(job.folder)
    seconds = time.perf_counter() - started
    ray.shutdown()
    return Found(seconds, stored_boxes(Path(job.folder)))


def _read_videos(paths: list[str], **options: Any) -> Any:
    """`read_videos`; its `fps` is an argument of the source alone."""
    import ray
    from ray.data._internal.datasource.video_datasource import VideoDatasource

    return ray.data.read_datasource(VideoDatasource(paths, **options))


if __name__ == "__main__":
    main(ray_video)
