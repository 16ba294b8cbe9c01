"""Frames per second of the detector, from stored JPEG and from decoded frames, and where a frame's time goes."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._agreement import FEW, SAME_IOU, SURE, WITHOUT_PARTNER, check_boxes
from benchmarks._gpu import Figures, Sizes
from benchmarks._gpu.media import detector, frames, wait
from benchmarks._results import median
from benchmarks._sides import Box, Found
from tasks.core.frame_batch import load_frames, save_frames
from tasks.core.models import yolo
from tasks.core.options import DetectionOptions, FrameOptions
from tasks.core.schema import Box as Seen

BOX_RULE = (
    f"boxes of confidence {SURE:g} or more have a partner of their class in the same frame at an IoU of {SAME_IOU:g}, "
    f"but for {WITHOUT_PARTNER:.0%} or {FEW}"
)


def run(sizes: Sizes) -> Figures:
    """Raises AssertionError where device and CPU do not see the same."""
    path, options = detector()
    network = yolo.load(path, sizes.device, sizes.precision, "torch", options.image_size)
    decoded = frames(sizes.frames)
    size = decoded.width, decoded.height
    inside = [0.0]

    def infer(images: np.ndarray) -> Any:
        started = time.perf_counter()
        found = network.infer(images)
        wait(sizes.device)
        inside[0] += time.perf_counter() - started
        return found

    look = functools.partial(yolo.detect, replace(network, infer=infer), source_size=size, options=options)
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "frames.parquet"
        save_frames(decoded, stored, FrameOptions())
        from_memory = _seconds(lambda: look(images=decoded.images), sizes.rounds)
        inside[0] = 0.0
        look(images=decoded.images)
        in_network = inside[0]
        read = _seconds(lambda: load_frames(stored), sizes.rounds)
        from_jpeg = _seconds(lambda: look(images=load_frames(stored).images), sizes.rounds)
        engines = {"TensorRT": _tensorrt(path, decoded.images, size, options, sizes, Path(folder))}
    count = len(decoded)
    return {
        "weights": path.name,
        "precision": network.precision,
        "frames": count,
        "frame_px": list(decoded.images[0].shape[1::-1]),
        "frames_per_s_from_jpeg": count / from_jpeg,
        "frames_per_s_from_decoded": count / from_memory,
        "ms_per_frame": {
            "read and decode JPEG": 1000 * read / count,
            "copy and network": 1000 * in_network / count,
            "scaling, suppression of duplicates, boxes": 1000 * max(0.0, from_memory - in_network) / count,
        },
        "other_engines": engines,
        "equal": _equal(path, options, look(images=decoded.images[:8]), decoded.images[:8], size, sizes),
    }


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """Median of `rounds`, after one that does not count."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def _equal(
    path: Path,
    options: DetectionOptions,
    found: Sequence[Sequence[Seen]],
    images: Sequence[np.ndarray],
    size: tuple[int, int],
    sizes: Sizes,
) -> Figures:
    on_cpu = yolo.load(path, "cpu", "float32", "torch", options.image_size)
    mine, theirs = as_found(found), as_found(yolo.detect(on_cpu, images, size, options))
    check_boxes("device and CPU", mine, theirs)
    assert theirs.boxes, "no boxes to compare"
    sides = [f"{sizes.device} {sizes.precision}", "cpu float32"]
    return {"rule": BOX_RULE, "sides": sides, "boxes": [len(mine.boxes), len(theirs.boxes)]}


def as_found(seen: Sequence[Sequence[Seen]]) -> Found:
    """Boxes of frames in order, as the agreement of sides takes them."""
    boxes: list[Box] = [
        (number, box.class_, box.confidence, *box.xyxy) for number, frame in enumerate(seen) for box in frame
    ]
    return Found(0.0, boxes)


def _tensorrt(
    path: Path, images: Sequence[np.ndarray], size: tuple[int, int], options: DetectionOptions, sizes: Sizes, at: Path
) -> float | str:
    """Frames a second of ONNX Runtime's TensorRT provider, or why there are none."""
    lacking = [name for name in ("onnx", "onnxruntime", "tensorrt") if importlib.util.find_spec(name) is None]
    if lacking or sizes.device == "cpu":
        return "not measured: " + (f"no {', '.join(lacking)} here" if lacking else "it needs a GPU")
    from benchmarks._detectors import PROVIDERS, export_onnx, onnx_inference

    provider = PROVIDERS["TensorRT (ONNX Runtime)"]
    try:
        infer = onnx_inference(export_onnx(path, at / "network.onnx"), provider, threads=1)
    except Exception as error:
        return f"not measured: {type(error).__name__}: {error}"[:300]
    loaded = replace(yolo.load(path, "cuda", "float32", "torch", options.image_size), infer=infer, backend="TensorRT")
    return len(images) / _seconds(lambda: yolo.detect(loaded, images, size, options), sizes.rounds)
