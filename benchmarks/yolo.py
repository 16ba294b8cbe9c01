"""YOLO frames per second by batch size and backend: torch, OpenVINO, ONNX Runtime and, on a GPU, CUDA and TensorRT.

Frames of a street at 1280x720 in memory; what is timed is the whole of `yolo.detect`: scaling and padding to 640 px,
the network in float32, suppression of duplicates, boxes in pixels of the frame. torch and OpenVINO are the backends
of the pipeline (weights exported beforehand); ONNX Runtime runs the same network behind the same code, its TensorRT
and CUDA providers where they are installed and a GPU is there. `ultralytics predict` is that library's own way with
the same frames and batches. `network ms` is the share of a frame's time in the network alone. The last table starts
from stored frames (JPEG in Parquet, as the pipeline keeps them), with the batch size that the pipeline uses.

The check: the boxes are those of torch with batch 1: same classes, corners within 1 px, confidence within 0.01; a box
within 0.01 of the confidence threshold may be on one side only.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._detectors import OPTIONS, SIZE, TORCH, Backend, Boxes, Images, installed
from benchmarks._results import Plot, Row, Table, median, parser, publish
from benchmarks._turns import Side, Times, alternate
from tasks.core.models.device import choose_device
from tasks.core.schema import Box
from tasks.workers.threads import available_cores

NAME = "yolo"
VIDEO = "video/bangkok_half_res.mp4"
CORNER_PX, CONFIDENCE = 1.0, 0.01


def main(argv: Sequence[str]) -> None:
    """Measures each backend that is installed at each batch size."""
    options = parser(NAME, __doc__)
    options.add_argument("--weights", default="yolo11n", help="a name in REELFLOW_MODELS_DIR, or a path")
    options.add_argument("--video", type=Path, help=f"frames to detect in; default: {VIDEO} of REELFLOW_TEST_MEDIA")
    options.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="frames per forward pass")
    options.add_argument("--frames", type=int, default=16, help="frames in all")
    options.add_argument("--threads", type=int, default=available_cores(), help="threads of each backend")
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--repeat", type=int, default=3, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    from tasks.core.models import weights, yolo

    models = os.environ.get("REELFLOW_MODELS_DIR")
    path = weights.resolve_yolo(arguments.weights, Path(models) if models else None).path
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yolo.import_ultralytics(folder)
        images = frames(arguments.video or _test_video(options), arguments.frames)
        backends, note = installed(path, choose_device(arguments.device, "detections"), arguments.threads, folder)
        expected = backends[TORCH].detect(images, 1)
        assert any(expected), "no boxes to compare"
        rows = [row for batch in arguments.batch for row in measure(backends, images, batch, expected, arguments)]
        stored = from_store(backends, images, expected, folder, arguments)
    plot = Plot("batch", ["frames/s"], by="backend", log_x=True)
    boxes = f"{sum(map(len, expected))} boxes on {len(images)} frames; {arguments.threads} threads."
    publish(
        arguments,
        NAME,
        __doc__,
        [Table("Frames in memory", rows, f"{boxes} {note}".strip(), [plot]), Table("Stored frames", stored, boxes)],
        weights=[path],
        packages=("onnxruntime", "onnxruntime-gpu", "onnx", "tensorrt"),
    )


def measure(
    backends: Mapping[str, Backend], images: Images, batch: int, expected: Boxes, arguments: argparse.Namespace
) -> list[Row]:
    """One row per backend."""
    check = functools.partial(same_boxes, expected=expected)
    for backend in backends.values():
        backend.network_s.clear()
    sides = {name: Side(functools.partial(way.detect, images, batch)) for name, way in backends.items()}
    times = alternate(sides, arguments.repeat, check)
    count = len(images)
    return [
        {
            "backend": name,
            "batch": batch,
            "frames/s": count / took.wall_s,
            "ms/frame": 1000 * took.wall_s / count,
            "network ms": 1000 * median(backends[name].network_s[1:]) / count if backends[name].network_s else None,
            "CPU ms/frame": 1000 * took.cpu_s / count,
            "speed / torch": 1 / took.wall_ratio(times[TORCH]),
        }
        for name, took in times.items()
    ]


def from_store(
    backends: Mapping[str, Backend], images: Images, expected: Boxes, folder: Path, arguments: argparse.Namespace
) -> list[Row]:
    """Reading JPEG alone, and reading with detecting, one row per backend of the pipeline."""
    from tasks.core.frame_batch import Frames, load_frames, save_frames
    from tasks.core.models import yolo
    from tasks.core.options import FrameOptions

    path = folder / "frames.parquet"
    times = [float(number) for number in range(len(images))]
    save_frames(Frames(list(images), times, list(range(len(images))), *SIZE), path, FrameOptions())
    restored = load_frames(path).images
    names = [name for name in (TORCH, "OpenVINO") if name in backends]
    batch = yolo.GPU_BATCH if choose_device(arguments.device, "detections") == "cuda" else yolo.CPU_BATCH
    wanted = {name: backends[name].detect(restored, batch) for name in names}
    found = sum(map(len, wanted[TORCH])) / sum(map(len, expected))
    assert 0.8 <= found <= 1.25, f"JPEG changes the number of boxes by {found:.2f}"

    def detect(name: str) -> Boxes:
        return backends[name].detect(load_frames(path).images, batch)

    def check(name: str, boxes: Boxes) -> None:
        if name in wanted:
            same_boxes(name, boxes, wanted[TORCH])

    sides: dict[str, Side[Boxes]] = {"read alone": Side(lambda: [[] for _ in load_frames(path).images])}
    sides |= {name: Side(functools.partial(detect, name)) for name in names}
    took: dict[str, Times] = alternate(sides, arguments.repeat, check)
    return [
        {
            "backend": name,
            "batch": batch if name in wanted else None,
            "frames/s": len(images) / seconds.wall_s,
            "CPU ms/frame": 1000 * seconds.cpu_s / len(images),
        }
        for name, seconds in took.items()
    ]


def same_boxes(name: str, found: Boxes, expected: Boxes) -> None:
    """Raises AssertionError unless each frame has the expected boxes."""
    assert len(found) == len(expected), f"{name}: boxes for {len(found)} frames, not {len(expected)}"
    for number, (boxes, wanted) in enumerate(zip(found, expected, strict=True)):
        free = list(boxes)
        missing = []
        for box in wanted:
            place = next((place for place, other in enumerate(free) if _is_same(box, other)), None)
            if place is None:
                missing.append(box)
            else:
                del free[place]
        certain = [box for box in [*missing, *free] if box.confidence > OPTIONS.confidence + CONFIDENCE]
        assert not certain, f"{name}: frame {number}: {len(certain)} boxes differ, first {certain[0]}"


def _is_same(one: Box, other: Box) -> bool:
    corners = max(abs(a - b) for a, b in zip(one.xyxy, other.xyxy, strict=True))
    close = corners <= CORNER_PX and abs(one.confidence - other.confidence) <= CONFIDENCE
    return one.class_ == other.class_ and close


def frames(video: Path, count: int) -> Images:
    """The first `count` frames at 1 frame/s, scaled to SIZE, BGR."""
    import cv2

    from tasks.core.frame_plan import plan_batches
    from tasks.core.frames import sample_frames
    from tasks.core.options import AudioOptions, FrameOptions, LimitOptions
    from tasks.core.probe import probe

    info, options = probe(video, LimitOptions(), AudioOptions()), FrameOptions(batch_size=count)
    found = sample_frames(video, info, plan_batches(info, options)[0], options, available_cores()).images
    assert len(found) == count, f"{video.name} has only {len(found)} frames at 1 frame/s"
    return [cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) for image in found]


def _test_video(options: argparse.ArgumentParser) -> Path:
    folder = os.environ.get("REELFLOW_TEST_MEDIA")
    if not folder:
        options.error("no test media: set REELFLOW_TEST_MEDIA or give --video FILE")
    return Path(folder) / VIDEO
