"""Training of the bundled detector: a YOLO11 of reduced width on drawn shapes, through ultralytics' own trainer."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tasks.core.models.training.drawing import BACKGROUNDS, CLASSES, PALETTE, Shape, background, bounds, clutter, draw

IMAGE_SIZE = 320
"""Pixels, width and height of a training image and the image size that the weights are meant for."""

SPLITS = {"train": 960, "val": 80, "test": 300}
BATCH = 16
ROUNDS = ((14, 3e-3), (9, 2e-3))
"""Epochs and first learning rate of each round; every round has new training images."""
SCALE = (0.33, 0.125, 1024)
"""Depth, width, most channels."""

_RADIUS_PX = (11.0, 60.0)
_MIN_CONTRAST = 70.0
_MOST_SHAPES = 6


def prepare_ultralytics(folder: Path) -> None:
    """Keep ultralytics offline and its settings in `folder`; must run before its first import."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(folder))


def _readable_colour(image: np.ndarray, box: Sequence[float], rng: np.random.Generator) -> tuple[int, int, int] | None:
    x0, y0, x1, y1 = (int(v) for v in box)
    under = image[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1].reshape(-1, 3).mean(axis=0)
    for _ in range(8):
        named = list(PALETTE.values())[int(rng.integers(len(PALETTE)))]
        base = np.array(named) if rng.random() < 0.5 else rng.integers(0, 256, 3)
        colour = np.clip(base + rng.integers(-15, 16, 3), 0, 255)
        if np.abs(colour - under).max() >= _MIN_CONTRAST:
            return int(colour[0]), int(colour[1]), int(colour[2])
    return None


def _apart(box: Sequence[float], others: Sequence[Sequence[float]], gap: float = 2.0) -> bool:
    return all(box[2] + gap < o[0] or o[2] + gap < box[0] or box[3] + gap < o[1] or o[3] + gap < box[1] for o in others)


def render(rng: np.random.Generator, size: int = IMAGE_SIZE) -> tuple[np.ndarray, list[Shape]]:
    """A training image (size, size, 3 uint8 BGR) and the shapes in it; some are letterboxed like 16:9 video."""
    height = size if rng.random() < 0.4 else round(size * 9 / 16)
    image = background(size, height, BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))], rng)
    if rng.random() < 0.6:
        clutter(image, rng)
    shapes: list[Shape] = []
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(int(rng.integers(0, _MOST_SHAPES + 1))):
        radius = float(np.exp(rng.uniform(*np.log(_RADIUS_PX))))
        name = CLASSES[int(rng.integers(len(CLASSES)))]
        angle = float(rng.uniform(-0.35, 0.35) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi))
        if 2 * radius + 4 > height:
            continue
        x, y = rng.uniform(radius + 1, size - radius - 1), rng.uniform(radius + 1, height - radius - 1)
        box = bounds(Shape(name, x, y, radius, angle, (0, 0, 0)))
        colour = _readable_colour(image, box, rng)
        if colour is None or not _apart(box, boxes):
            continue
        shape = Shape(name, float(x), float(y), radius, angle, colour)
        draw(image, shape)
        shapes.append(shape)
        boxes.append(box)
    return _degrade(image, rng, size), [_moved_down(s, (size - height) // 2) for s in shapes]


def _moved_down(shape: Shape, by: int) -> Shape:
    return Shape(shape.name, shape.x, shape.y + by, shape.radius, shape.angle, shape.colour)


def _degrade(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    above = (size - image.shape[0]) // 2
    below = size - image.shape[0] - above
    return cv2.copyMakeBorder(image, above, below, 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def write_dataset(folder: Path, seed: int) -> Path:
    """Images and YOLO labels for every split under `folder`; returns the data.yaml."""
    for number, (split, count) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([seed, number])
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, shapes = render(rng)
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
            cv2.imwrite(str(images / f"{i:05d}.jpg"), image, quality)
            (labels / f"{i:05d}.txt").write_text("".join(_label(shape) for shape in shapes))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n{names}")
    return data


def _label(shape: Shape) -> str:
    x0, y0, x1, y1 = (v / IMAGE_SIZE for v in bounds(shape))
    return f"{CLASSES.index(shape.name)} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n"


def _write_architecture(folder: Path) -> Path:
    """YOLO11's own layer list with our scale and classes."""
    import ultralytics
    import yaml

    source = Path(ultralytics.__file__).parent / "cfg" / "models" / "11" / "yolo11.yaml"
    layers: dict[str, Any] = yaml.safe_load(source.read_text())
    layers.update(nc=len(CLASSES), scales={"n": list(SCALE)})
    target = folder / "yolo11n-shapes.yaml"
    target.write_text(yaml.safe_dump(layers, sort_keys=False))
    return target


def train_shapes(work: Path, target: Path, seed: int) -> dict[str, float]:
    """Train, strip, save fp16 weights to `target`; returns figures measured on the separate test set."""
    started = time.monotonic()
    prepare_ultralytics(work / "ultralytics")
    start = _write_architecture(work)
    for number in range(1, len(ROUNDS) + 1):
        start = run_round(start, work, seed, number)
    _export(start, target)
    figures = measure_shapes(target, work / "shapes1" / "data.yaml", work)
    figures["training_s"] = round(time.monotonic() - started)
    return figures


def run_round(start: Path, work: Path, seed: int, number: int) -> Path:
    """Train on from `start`, an architecture or weights; returns the round's best weights, by its own val split."""
    from ultralytics import YOLO

    epochs, rate = ROUNDS[number - 1]
    data = write_dataset(work / f"shapes{number}", seed + 100 * (number - 1))
    print(f"shapes round {number}: {SPLITS} images", flush=True)
    YOLO(str(start), task="detect").train(
        data=str(data),
        epochs=epochs,
        batch=BATCH,
        imgsz=IMAGE_SIZE,
        optimizer="AdamW",
        lr0=rate,
        lrf=0.02,
        warmup_epochs=1.0,
        seed=seed,
        deterministic=True,
        device="cpu",
        workers=0,
        plots=False,
        val=True,
        project=str(work / "runs"),
        name=f"shapes{number}",
        exist_ok=True,
        verbose=False,
        pretrained=start.suffix == ".pt",
        nbs=BATCH,
        mosaic=0.0,
        degrees=0.0,
        translate=0.1,
        scale=0.4,
        fliplr=0.5,
        flipud=0.5,
        erasing=0.0,
    )
    return work / "runs" / f"shapes{number}" / "weights" / "best.pt"


def _export(best: Path, target: Path) -> None:
    """The trained network in ultralytics' checkpoint format: fp16, no optimizer, nothing about this machine."""
    import torch

    checkpoint: dict[str, Any] = torch.load(best, map_location="cpu", weights_only=False)
    network = (checkpoint.get("ema") or checkpoint["model"]).half()
    for parameter in network.parameters():
        parameter.requires_grad = False
    kept = ("imgsz", "task", "single_cls")
    network.args = {key: value for key, value in dict(network.args).items() if key in kept}
    network.yaml_file = target.stem + ".yaml"
    network.yaml["yaml_file"] = network.yaml_file
    stripped = {"model": network, "ema": None, "optimizer": None, "epoch": -1, "updates": None}
    torch.save(stripped | {"train_args": network.args, "version": checkpoint["version"]}, target)


def measure_shapes(weights: Path, data: Path, work: Path) -> dict[str, float]:
    """mAP50 and mAP50-95 on the test split, which neither training nor the choice of the best epoch has seen."""
    prepare_ultralytics(work / "ultralytics")
    from ultralytics import YOLO

    result = YOLO(str(weights)).val(
        data=str(data),
        split="test",
        imgsz=IMAGE_SIZE,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        project=str(work / "runs"),
        name="test",
        exist_ok=True,
    )
    return {"map50": round(float(result.box.map50), 4), "map50_95": round(float(result.box.map), 4)}
