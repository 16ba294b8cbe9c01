"""Our batches give the boxes of ultralytics' own predict, in source pixels; hostile weights are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tasks.core.errors import BadModel, OptionError, ToolFailed
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.models import bundled, yolo, yolo_openvino
from tasks.core.options import AudioOptions, DetectionOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import Box

Street = tuple[list[np.ndarray], tuple[int, int]]
OPTIONS = DetectionOptions(confidence=0.35)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def weights(models_dir: Path) -> Path:
    found = sorted(models_dir.glob("yolo11n*.pt"))
    if not found:
        pytest.skip("no yolo11n*.pt in REELFLOW_MODELS_DIR")
    return found[0]


@pytest.fixture(scope="session")
def torch_model(weights: Path, cache: Path) -> yolo.YoloModel:
    return yolo.load(weights, "cpu", "float32", "torch", 640, cache)


def frames_of(path: Path) -> tuple[list[np.ndarray], tuple[int, int]]:
    info, options = probe(path, LimitOptions(), AudioOptions()), FrameOptions(max_side=1920)
    images = [
        image for batch in plan_batches(info, options) for image in sample_frames(path, info, batch, options, 2).images
    ]
    assert info.video is not None
    return images, (info.video.width, info.video.height)


@pytest.fixture(scope="session")
def street(shared_media: Path) -> tuple[list[np.ndarray], tuple[int, int]]:
    return frames_of(shared_media / "video" / "bangkok_half_res.mp4")


def assert_close(found: list[list[Box]], wanted: list[list[Box]], pixels: float, confidence: float) -> None:
    assert [len(boxes) for boxes in found] == [len(boxes) for boxes in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a.class_ == b.class_
            assert a.confidence == pytest.approx(b.confidence, abs=confidence)
            assert a.xyxy == pytest.approx(b.xyxy, abs=pixels)


def predicted(weights: Path, images: list[np.ndarray]) -> list[list[Box]]:
    """What ultralytics finds, one image at a time."""
    from ultralytics import YOLO

    model: Any = YOLO(str(weights))
    results = [model.predict(image, conf=0.35, iou=0.7, imgsz=640, verbose=False, device="cpu")[0] for image in images]
    return [
        [Box(xyxy=tuple(box[:4]), class_=result.names[int(box[5])], confidence=box[4]) for box in rows]
        for result in results
        for rows in [result.boxes.data.tolist()]
    ]


def test_boxes_are_those_of_ultralytics(torch_model: yolo.YoloModel, weights: Path, street: Street) -> None:
    images, size = street
    some = [images[0], images[9], images[18][:300, :500], images[5]]
    found = yolo.detect(torch_model, some[:2], size, OPTIONS) + [
        yolo.detect(torch_model, [image], image.shape[1::-1], OPTIONS)[0] for image in some[2:]
    ]
    assert sum(map(len, found)) > 20
    assert_close(found, predicted(weights, some), 0.5, 1e-3)
    mixed = yolo.detect(torch_model, [images[0], cv2.resize(images[0], (320, 180)), images[9]], size, OPTIONS)
    assert_close([mixed[0], mixed[2]], found[:2], 0.02, 1e-3)


def test_openvino_boxes_are_those_of_torch(
    torch_model: yolo.YoloModel, weights: Path, street: Street, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    images, size = street
    model = yolo.load(weights, "auto", "auto", "auto", 640, cache)
    assert model.backend == "openvino"
    turned = [np.ascontiguousarray(np.rot90(image)) for image in images[:2]]
    for some, (width, height) in ((images[:6], size), (turned, size[::-1])):
        found, wanted = (yolo.detect(engine, some, (width, height), OPTIONS) for engine in (model, torch_model))
        assert_close(found, wanted, 1, 0.01)
    monkeypatch.setattr(yolo, "_models", {})
    monkeypatch.setattr(yolo_openvino, "_export", lambda *_: pytest.fail("exported a second time"))
    again = yolo.load(weights, "cpu", "auto", "openvino", 640, cache)
    assert again.names == torch_model.names
    assert not [path for path in (cache / "openvino").iterdir() if path.name.startswith(".export")]


def test_boxes_are_in_source_pixels_when_frames_are_stored_smaller(torch_model: yolo.YoloModel, street: Street) -> None:
    images, (width, height) = street
    (same,) = yolo.detect(torch_model, images[:1], (width, height), OPTIONS)
    (larger,) = yolo.detect(torch_model, images[:1], (3 * width, 3 * height), OPTIONS)
    for a, b in zip(same, larger, strict=True):
        assert b.xyxy == pytest.approx([3 * value for value in a.xyxy], abs=0.05)
        assert 0 <= b.xyxy[0] < b.xyxy[2] <= 3 * width


def test_confidence_classes_and_max_boxes(torch_model: yolo.YoloModel, street: Street) -> None:
    images, size = street
    (every,) = yolo.detect(torch_model, images[:1], size, DetectionOptions(confidence=0.1))
    assert [box.confidence for box in every] == sorted((box.confidence for box in every), reverse=True)
    (strict,) = yolo.detect(torch_model, images[:1], size, DetectionOptions(confidence=0.6))
    assert 0 < len(strict) < len(every)
    assert min(box.confidence for box in strict) >= 0.6
    (cars,) = yolo.detect(torch_model, images[:1], size, DetectionOptions(confidence=0.1, classes=("Car",)))
    assert cars
    assert {box.class_ for box in cars} == {"car"}
    (two,) = yolo.detect(torch_model, images[:1], size, DetectionOptions(confidence=0.1, max_boxes=2))
    assert two == every[:2]
    assert yolo.detect(torch_model, [], size, OPTIONS) == []
    with pytest.raises(OptionError, match="motorcycle"):
        yolo.detect(torch_model, images[:1], size, DetectionOptions(classes=("motorcicle",)))


def test_one_model_per_process(torch_model: yolo.YoloModel, weights: Path, cache: Path) -> None:
    assert yolo.load(weights, "cpu", "auto", "torch", 640, cache) is torch_model
    with pytest.raises(ToolFailed, match="needs a GPU"):
        yolo.load(weights, "cpu", "float16", "torch", 640, cache)


@pytest.mark.parametrize("name", ["people.mp4", "bangkok_half_res.mp4"])
def test_counts_agree_with_the_reference(shared_media: Path, torch_model: yolo.YoloModel, name: str) -> None:
    truth = json.loads((shared_media / "ground_truth.json").read_text())["objects_about_1_fps_conf_0.35_yolo11n"][name]
    images, size = frames_of(shared_media / "video" / name)
    assert len(images) == truth.pop("frames")
    found = [box.class_ for boxes in yolo.detect(torch_model, images, size, OPTIONS) for box in boxes]
    for label, count in truth.items():
        assert found.count(label) == pytest.approx(count, rel=0.15), label


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("where", ["model", "ema", "train_args"])
def test_weights_that_hold_code_are_refused(tmp_path: Path, where: str) -> None:
    import torch

    checkpoint: dict[str, object] = {"model": None, "ema": None, "train_args": {}, where: _Attack(tmp_path / "owned")}
    path = tmp_path / "yolo11n.pt"
    torch.save(checkpoint, path)
    with pytest.raises(BadModel, match="could run code"):
        yolo.load(path, "cpu", "auto", "torch", 640, tmp_path)
    assert not (tmp_path / "owned").exists()


def test_weights_that_are_damaged_or_no_detector_are_refused(tmp_path: Path) -> None:
    import torch

    text = tmp_path / "text.pt"
    text.write_text("not weights")
    archive = tmp_path / "archive.pt"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    tensors = tmp_path / "tensors.pt"
    torch.save({"weight": torch.zeros(2)}, tensors)
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path in (text, archive, tensors, empty):
        with pytest.raises(BadModel, match=path.name):
            yolo.load(path, "cpu", "auto", "torch", 640, tmp_path)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one core: there is none to be pinned to")
def test_openvino_leaves_its_threads_to_the_kernel(tmp_path: Path) -> None:
    """Pinned, the threads of all workers of a host would share the first core."""
    pytest.importorskip("openvino")
    model = yolo.load(bundled.SHAPES_WEIGHTS, "cpu", "auto", "openvino", 640, tmp_path)
    seen: set[frozenset[int]] = set()
    ended = threading.Event()

    def watch(thread: int) -> None:
        while not ended.is_set():
            seen.add(frozenset(os.sched_getaffinity(thread)))

    watcher = threading.Thread(target=watch, args=(threading.get_native_id(),))
    watcher.start()
    for _ in range(20):
        model.infer(np.zeros((1, 640, 640, 3), np.uint8))
    ended.set()
    watcher.join()
    assert seen == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_loading_imports_no_torchvision_and_leaves_no_traces(
    weights: Path, tmp_path: Path, cache: Path, backend: str
) -> None:
    """In a fresh process: no torchvision (5 s), nothing in the home folder, no thread setting for children."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    script = (
        "import os, sys, numpy; from pathlib import Path; from tasks.core.models import yolo;"
        "from tasks.core.options import DetectionOptions;"
        f"model = yolo.load(Path({str(weights)!r}), 'cpu', 'auto', {backend!r}, 64, Path({str(cache)!r}));"
        "yolo.detect(model, [numpy.zeros((48, 64, 3), numpy.uint8)], (64, 48), DetectionOptions(image_size=64));"
        "assert 'torchvision' not in sys.modules; assert 'OMP_NUM_THREADS' not in os.environ"
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "YOLO_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=kept | {"HOME": str(home)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
