"""Ways to run YOLO on batches of frames: the pipeline's backends, ONNX Runtime's, ultralytics' own predict."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tasks.core.options import DetectionOptions
from tasks.core.schema import Box

SIZE = (1280, 720)
"""Width and height of the frames, pixels."""
OPTIONS = DetectionOptions()
TORCH, PREDICT = "torch", "ultralytics predict"
PROVIDERS = {
    "ONNX Runtime": "CPUExecutionProvider",
    "ONNX Runtime CUDA": "CUDAExecutionProvider",
    "TensorRT (ONNX Runtime)": "TensorrtExecutionProvider",
}

Images = Sequence[np.ndarray]
Boxes = list[list[Box]]


@dataclass
class Backend:
    """A way to find boxes in batches of a given size."""

    detect: Callable[[Images, int], Boxes]
    network_s: list[float] = field(default_factory=list)
    """Seconds that the network took of each call; empty where that is not known."""


def installed(path: Path, device: str, threads: int, folder: Path) -> tuple[dict[str, Backend], str]:
    """The backends that can run here, and a note that names the others."""
    from tasks.core.models import yolo, yolo_openvino

    network = yolo.load(path, device, "float32", "torch", OPTIONS.image_size, folder)
    backends = {TORCH: through_detect(network)}
    missing = []
    if device == "cpu" and yolo_openvino.installed():
        loaded = yolo.load(path, device, "float32", "openvino", OPTIONS.image_size, folder)
        backends["OpenVINO"] = through_detect(loaded)
    else:
        missing.append("OpenVINO")
    backends[PREDICT] = Backend(functools.partial(predict, path, device))
    exporters = [module for module in ("onnx", "onnxruntime") if importlib.util.find_spec(module) is None]
    if exporters:
        return backends, f"Left out: {', '.join([*missing, *PROVIDERS])} (no {' and '.join(exporters)} here)."
    onnxruntime: Any = importlib.import_module("onnxruntime")

    model = export_onnx(path, folder / "network.onnx")
    for name, provider in PROVIDERS.items():
        if provider not in onnxruntime.get_available_providers() or (device == "cpu") != provider.startswith("CPU"):
            missing.append(name)
            continue
        backends[name] = through_detect(replace(network, backend=name, infer=onnx_inference(model, provider, threads)))
    return backends, f"Left out, because not installed or not for {device}: {', '.join(missing)}." if missing else ""


def through_detect(model: Any) -> Backend:
    """Our detect with this network, timed; `model` is a YoloModel."""
    import torch

    from tasks.core.models import yolo

    inside = [0.0]

    def infer(images: np.ndarray) -> Any:
        started = time.perf_counter()
        predictions = model.infer(images)
        if predictions.is_cuda:
            torch.cuda.synchronize()
        inside[0] += time.perf_counter() - started
        return predictions

    measured = replace(model, infer=infer)

    def detect(images: Images, batch: int) -> Boxes:
        inside[0] = 0.0
        with mock.patch.multiple(yolo, CPU_BATCH=batch, GPU_BATCH=batch):
            boxes = yolo.detect(measured, images, SIZE, OPTIONS)
        backend.network_s.append(inside[0])
        return boxes

    backend = Backend(detect)
    return backend


def predict(path: Path, device: str, images: Images, batch: int) -> Boxes:
    """ultralytics' own way."""
    model = _ultralytics(path)
    boxes: Boxes = []
    for start in range(0, len(images), batch):
        results = model.predict(
            list(images[start : start + batch]),
            imgsz=OPTIONS.image_size,
            conf=OPTIONS.confidence,
            iou=OPTIONS.iou,
            max_det=OPTIONS.max_boxes,
            device=device,
            verbose=False,
        )
        boxes += [
            [
                Box(xyxy=tuple(corners), class_=result.names[int(number)], confidence=confidence)
                for corners, confidence, number in zip(
                    result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True
                )
            ]
            for result in results
        ]
    return boxes


@functools.cache
def _ultralytics(path: Path) -> Any:
    from ultralytics import YOLO

    return YOLO(path)


def export_onnx(path: Path, model: Path) -> Path:
    """The network as ONNX: float32 (B, 3, H, W) in 0 to 1 to predictions (B, 4 + classes, anchors), sizes free."""
    import torch

    from tasks.core.models import yolo

    network = yolo.load_network(path)
    head = network.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", True
    free = {"images": {0: "batch", 2: "height", 3: "width"}, "predictions": {0: "batch", 2: "anchors"}}
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 64, 96),),
        str(model),
        input_names=["images"],
        output_names=["predictions"],
        dynamic_axes=free,
        dynamo=False,
    )
    return model


def onnx_inference(model: Path, provider: str, threads: int) -> Callable[[np.ndarray], Any]:
    """RGB uint8 (B, H, W, 3) to predictions. Raises AssertionError where the provider does not start."""
    import torch

    onnxruntime: Any = importlib.import_module("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
    assert session.get_providers()[0] == provider, f"ONNX Runtime has taken {session.get_providers()[0]}"

    def infer(images: np.ndarray) -> Any:
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        return torch.from_numpy(session.run(None, {"images": batch})[0])

    return infer
