"""The picture branch: sampled frames and the objects in them."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import artifact_file
from tasks.core import frames as sampling
from tasks.core.frame_batch import load_frames, save_frames
from tasks.core.frames import FrameBatchSpec
from tasks.core.models import weights, yolo
from tasks.core.options import DetectionOptions, FrameOptions
from tasks.core.records import save_records
from tasks.core.schema import ArtifactRef, FrameDetections, MediaInfo, MediaRef, ModelInfo
from tasks.lookup import same_weights, source_file
from tasks.settings import settings
from tasks.stage import stage
from tasks.threads import threads_per_task

FRAMES = "frames.parquet"
DETECTIONS = "detections.json"


@stage("frames", version=1, label="{media.name} from {batch.start:.0f} s")
def sample_frames(media: MediaRef, info: MediaInfo, batch: FrameBatchSpec, options: FrameOptions, out: Path) -> None:
    """One batch of frames with their exact times."""
    with source_file(media) as path:
        found = sampling.sample_frames(path, info, batch, options, threads_per_task())
    save_frames(found, out / FRAMES, options)


@stage("detections", version=1, tags=["gpu"], label="{media.name}")
def detect_objects(
    media: MediaRef, frames: ArtifactRef, model: ModelInfo, options: DetectionOptions, out: Path
) -> None:
    """Boxes for one batch of frames.  (T frames in, T lists of boxes out; xyxy in source pixels.)"""
    batch = load_frames(artifact_file(frames, FRAMES))
    boxes = yolo.detect(load_model(model, options), batch.images, (batch.width, batch.height), options)
    rows = zip(batch.indexes, batch.times, boxes, strict=True)
    save_records(
        [FrameDetections(index=index, time=time, boxes=found) for index, time, found in rows], out / DETECTIONS
    )


def load_model(model: ModelInfo, options: DetectionOptions) -> yolo.YoloModel:
    """The network, loaded by this process's first call and kept."""
    here = settings()
    file = weights.resolve_yolo(options.weights, here.models)
    return yolo.load(
        same_weights(file, model), options.device, options.precision, model.backend, options.image_size, here.cache
    )
