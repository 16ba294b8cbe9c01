"""The picture branch: sampled frames and the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.frame_plan import FrameBatchSpec, plan_batches
from tasks.core.models import weights
from tasks.core.options import (
    AnalyzeOptions,
    DetectionOptions,
    EmbeddingOptions,
    FrameOptions,
    SceneOptions,
    TagOptions,
)
from tasks.core.records import save_records
from tasks.core.schema import ArtifactRef, BankRef, FrameDetections, MediaInfo, MediaRef, ModelInfo, SceneChange
from tasks.records.artifacts import artifact_file
from tasks.records.lookup import same_weights, source_file
from tasks.settings import settings
from tasks.stages.stage import stage
from tasks.stages.text_bank import load_bank_vectors, load_embedder
from tasks.store import open_store
from tasks.workers.threads import threads_per_task

if TYPE_CHECKING:
    from tasks.core.embeddings import Embeddings
    from tasks.core.models.yolo import YoloModel

FRAMES = "frames.parquet"
SHOTS = "shots.npz"
DETECTIONS = "detections.json"
EMBEDDINGS = "embeddings.npz"
SCENES = "scenes.json"
DESCRIPTION = "description.json"


@stage("frames", version=4, label="{media.name} from {batch.start:.0f} s")
def sample_frames(media: MediaRef, info: MediaInfo, batch: FrameBatchSpec, options: FrameOptions, out: Path) -> None:
    """One batch of frames with their exact times, and how much every frame of its stretch differs from the last."""
    from tasks.core import frames as sampling
    from tasks.core.frame_batch import save_frames
    from tasks.core.shots import save_shots

    with source_file(media) as path:
        found = sampling.sample_frames(path, info, batch, options, threads_per_task())
    save_frames(found, out / FRAMES, options)
    if found.shots:
        save_shots(found.shots, out / SHOTS)


@stage("detections", version=1, tags=["gpu"], label="{media.name}")
def detect_objects(
    media: MediaRef, frames: ArtifactRef, model: ModelInfo, options: DetectionOptions, out: Path
) -> None:
    """Boxes for one batch of frames.  (T frames in, T lists of boxes out; xyxy in source pixels.)"""
    from tasks.core.frame_batch import load_frames
    from tasks.core.models import yolo

    batch = load_frames(artifact_file(frames, FRAMES))
    boxes = yolo.detect(load_model(model, options), batch.images, (batch.width, batch.height), options)
    rows = zip(batch.indexes, batch.times, boxes, strict=True)
    save_records(
        [FrameDetections(index=index, time=time, boxes=found) for index, time, found in rows], out / DETECTIONS
    )


@stage("embeddings", version=1, tags=["gpu"], label="{media.name}")
def embed_frames(media: MediaRef, frames: ArtifactRef, model: ModelInfo, options: EmbeddingOptions, out: Path) -> None:
    """Vectors of one batch of frames.  (T frames in, (T, D) float32 of length 1 out.)"""
    from tasks.core.embeddings import Embeddings, save_embeddings
    from tasks.core.frame_batch import load_frames

    batch = load_frames(artifact_file(frames, FRAMES), "slot")
    vectors = load_embedder(model, options).embed_images(batch.images)
    slots = [slot for slot in batch.slots if slot is not None]
    save_embeddings(Embeddings(slots, batch.times, vectors), out / EMBEDDINGS)


@stage("scenes", version=2, label="{media.name}")
def detect_scenes(
    media: MediaRef, frames: list[ArtifactRef], embeddings: list[ArtifactRef], options: SceneOptions, out: Path
) -> None:
    """Scene changes by meaning, following the embeddings in order of time, and cuts between shots."""
    from tasks.core.scenes import EmaScenes
    from tasks.core.shots import find_cuts, load_shots

    found: list[SceneChange] = []
    if embeddings:
        vectors = load_embedded(embeddings)
        found += EmaScenes(options).update(vectors.times, vectors.vectors)
    if frames:
        found += find_cuts([load_shots(artifact_file(ref, SHOTS)) for ref in frames], options)
    save_records(sorted(found, key=lambda change: (change.time, change.method)), out / SCENES)


@stage("description", version=1, label="{media.name}")
def describe(
    media: MediaRef,
    info: MediaInfo,
    embeddings: list[ArtifactRef],
    bank: BankRef,
    chunks: EmbeddingOptions,
    options: TagOptions,
    out: Path,
) -> None:
    """Tags and caption of each chunk and of the media."""
    from tasks.core import describe as core_describe

    vectors = load_bank_vectors(open_store(media.store), bank)
    found = core_describe.describe(load_embedded(embeddings), vectors, chunks, options.top, info.duration_s)
    save_records(found, out / DESCRIPTION)


def plan_frames(info: MediaInfo, options: AnalyzeOptions, models: dict[str, ModelInfo]) -> list[FrameBatchSpec]:
    """The batches that a media's frames are sampled in."""
    embed_fps = Fraction(options.embeddings.frames_per_chunk) / Fraction(str(options.embeddings.chunk_s))
    wanted = embed_fps if "embeddings" in models else None
    return plan_batches(info, options.frames, embed_fps=wanted, shots=has_shots(options))


def has_shots(options: AnalyzeOptions) -> bool:
    """Are cuts between shots looked for while frames are sampled?"""
    return options.scenes.shots and options.frames.mode == "uniform"


def load_embedded(batches: Sequence[ArtifactRef]) -> Embeddings:
    """The batches' vectors, in order of time."""
    from tasks.core.embeddings import concatenate, load_embeddings

    return concatenate([load_embeddings(artifact_file(ref, EMBEDDINGS)) for ref in batches])


def load_model(model: ModelInfo, options: DetectionOptions) -> YoloModel:
    """The network, loaded by this process's first call and kept."""
    from tasks.core.models import yolo

    here = settings()
    file = weights.resolve_yolo(options.weights, here.models)
    return yolo.load(
        same_weights(file, model), options.device, options.precision, model.backend, options.image_size, here.cache
    )
