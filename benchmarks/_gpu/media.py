"""Frames and weights that the parts share: real ones where they are at hand, else the bundled ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._media import ENGLISH
from tasks.core.errors import ModelNotFound
from tasks.core.frame_batch import Frames
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.host import available_cores
from tasks.core.models import bundled, weights
from tasks.core.options import AudioOptions, DetectionOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.settings import settings

STREET = "video/bangkok_half_res.mp4"


def video() -> Path:
    """A street of the test media (REELFLOW_TEST_MEDIA), else the bundled sample."""
    street = Path(os.environ.get("REELFLOW_TEST_MEDIA", "")) / STREET
    return street if street.is_file() else bundled.SAMPLE_CLIP


def frames(count: int) -> Frames:
    """The first `count` frames of the video at four a second, decoded as the pipeline does it; fewer where it ends."""
    options = FrameOptions(fps=4.0, batch_size=count)
    info = probe(video(), LimitOptions(), AudioOptions())
    return sample_frames(video(), info, plan_batches(info, options)[0], options, available_cores())


def detector() -> tuple[Path, DetectionOptions]:
    """YOLO11n of REELFLOW_MODELS_DIR for the street, else the bundled network for the sample, with its options."""
    if video() != bundled.SAMPLE_CLIP:
        try:
            return weights.resolve_yolo("yolo11n", settings().models).path, DetectionOptions()
        except ModelNotFound:
            pass
    return bundled.SHAPES_WEIGHTS, DetectionOptions(image_size=320, confidence=0.35)


def english() -> Path | None:
    """OpenAI's tiny.en of REELFLOW_MODELS_DIR; None where it is not."""
    folder = settings().models
    return folder / ENGLISH if folder and (folder / ENGLISH).is_file() else None


def wait(device: str) -> None:
    """Until the GPU has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def repeated(images: Sequence[np.ndarray], count: int) -> list[Any]:
    """`count` frames: these, again and again."""
    return [images[number % len(images)] for number in range(count)]
