"""Ultralytics YOLO: loaded once per process, run on batches, boxes in pixels of the source frame."""

from __future__ import annotations

import difflib
import importlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.errors import BadModel, OptionError, ToolFailed
from tasks.core.models import yolo_openvino
from tasks.core.models.checkpoint import check_checkpoint, check_tensors
from tasks.core.models.device import choose_device, choose_precision
from tasks.core.models.weights_file import file_digest
from tasks.core.options import DetectionOptions
from tasks.core.schema import Box

if TYPE_CHECKING:
    import torch

CPU_BATCH, GPU_BATCH = 4, 32
"""Images per forward pass: on a CPU more of them leave the cache, on a GPU they fill it."""

PADDING = 114
"""Grey that ultralytics pads with."""

NMS_SECONDS_PER_IMAGE = 3600.0
"""ultralytics drops the boxes of images that it has no time for (0.05 s each by default); never here."""

_models: dict[tuple[str, str, str, str], YoloModel] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class YoloModel:
    """A detector in memory."""

    names: dict[int, str]
    """Class names by number."""
    device: str
    precision: str
    backend: str
    stride: int
    """Sides of the input are multiples of it, pixels."""
    end2end: bool
    """The network suppresses duplicates itself."""
    infer: Callable[[np.ndarray], torch.Tensor]
    """RGB uint8 (B, H, W, 3) to predictions (B, 4 + classes, anchors) on the device."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def load(
    path: Path,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    image_size: int = 640,
    cache_dir: Path | None = None,
) -> YoloModel:
    """The model of a weights file, loaded by the first call of this process and kept.

    `cache_dir` holds what is made once per machine (the OpenVINO export); None: a folder for this process.
    Raises BadModel for weights that are damaged, hold more than known network classes or detect no boxes, ToolFailed
    for a device that is not there or float16 on a CPU, OptionError for OpenVINO where it does not apply.
    """
    device = choose_device(device, "detections")
    backend = choose_backend(backend, device)
    precision = choose_precision(precision, device, "detections")
    key = (file_digest(path), device, precision, backend)
    with _loading:
        if key not in _models:
            import_ultralytics(cache_dir)
            folder = cache_dir or Path(tempfile.mkdtemp(prefix="reelflow-"))
            model = _load_openvino(path, folder) if backend == "openvino" else _load_torch(path, device, precision)
            model.infer(np.full((1, image_size, image_size, 3), PADDING, np.uint8))
            _models[key] = model
        return _models[key]


def choose_backend(backend: str, device: str) -> str:
    """auto is openvino on a CPU where it is installed, else torch.

    Raises OptionError for openvino on a GPU, ToolFailed where it is asked for and not installed.
    """
    if backend == "torch" or (backend == "auto" and (device != "cpu" or not yolo_openvino.installed())):
        return "torch"
    if device != "cpu":
        raise OptionError("detections.backend=openvino runs on the CPU; set detections.device=cpu or backend=torch")
    if not yolo_openvino.installed():
        raise ToolFailed("detections.backend=openvino, but openvino is not installed; install the extra, or use torch")
    return "openvino"


def detect(
    model: YoloModel, images: Sequence[np.ndarray], source_size: tuple[int, int], options: DetectionOptions
) -> list[list[Box]]:
    """Boxes of each image, most confident first, in pixels of the source frame (`source_size`: width, height).

    `images` are BGR uint8 (H, W, 3) of any sizes; each is scaled so that its longer side is options.image_size and
    padded to a multiple of the stride, as ultralytics' predict does.  Raises OptionError for a class name that the
    model does not have.
    """
    classes = _class_numbers(model, options.classes)
    boxes: list[list[Box]] = [[] for _ in images]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(number)
    step = GPU_BATCH if model.device == "cuda" else CPU_BATCH
    for numbers in by_shape.values():
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            found = _detect_same_size(model, [images[number] for number in some], source_size, options, classes)
            for number, result in zip(some, found, strict=True):
                boxes[number] = result
    return boxes


def import_ultralytics(cache_dir: Path | None) -> None:
    """Imports ultralytics so that it does not phone home, install packages or write into the home folder."""
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = cache_dir / "ultralytics" if cache_dir else Path(tempfile.mkdtemp(prefix="reelflow-ultralytics-"))
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = str(folder)
    threads = os.environ.get("OMP_NUM_THREADS")
    importlib.import_module("ultralytics.utils")  # sets OMP_NUM_THREADS for every child process

    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)


def load_network(path: Path) -> Any:
    """The torch module in a weights file, float32, fused, on the CPU.

    A checkpoint is a pickle: only tensors and known torch and ultralytics network classes are rebuilt from it.
    Raises BadModel for anything else.
    """
    import torch
    from ultralytics.nn import tasks as networks

    path = path.resolve()  # ultralytics would download what is named without a folder
    check_checkpoint(path)
    if not networks._SafeLoad.SUPPORTED:
        raise ToolFailed("this torch cannot load weights safely; install the locked version with make setup")
    try:
        restricted_load: Any = networks.torch_safe_load
        checkpoint, _ = restricted_load(path, safe_only=True)
    except Exception as error:
        raise BadModel(
            f"{path.name} was not loaded: it is damaged, or it is no Ultralytics checkpoint (a checkpoint that holds "
            "anything but a network could run code, and is refused); get it again from its publisher",
            detail=str(error),
        ) from error
    network = checkpoint.get("ema") or checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if type(network) is not networks.DetectionModel or getattr(network, "task", "detect") != "detect":
        # Its subclasses take texts or prompts, for which they download further networks.
        raise BadModel(f"{path.name} is no model that detects objects; use a YOLO detection model such as yolo11n.pt")
    check_tensors(path, [*network.parameters(), *network.buffers()])
    fuse: Any = network.float().fuse
    network = fuse(verbose=False).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def _load_torch(path: Path, device: str, precision: str) -> YoloModel:
    import torch

    network = load_network(path).to(device)
    dtype = torch.float16 if precision == "float16" else torch.float32
    network = network.to(dtype)

    def infer(images: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(dtype).div_(255)
            output = network(batch)
            predictions: torch.Tensor = output[0] if isinstance(output, (list, tuple)) else output
            return predictions.float()

    return YoloModel(
        names=_names(network),
        device=device,
        precision=precision,
        backend="torch",
        stride=_stride(network),
        end2end=bool(getattr(network, "end2end", False)),
        infer=infer,
    )


def _load_openvino(path: Path, cache_dir: Path) -> YoloModel:
    import torch

    def network() -> tuple[Any, dict[str, Any]]:
        loaded = load_network(path)
        if getattr(loaded, "end2end", False):
            raise OptionError(f"{path.name} is an end-to-end model; set detections.backend=torch for it")
        return loaded, {"names": _names(loaded), "stride": _stride(loaded)}

    run, facts = yolo_openvino.compiled(network, file_digest(path), cache_dir, threads=torch.get_num_threads())
    return YoloModel(
        names={int(number): str(name) for number, name in facts["names"].items()},
        device="cpu",
        precision="float32",
        backend="openvino",
        stride=int(facts["stride"]),
        end2end=False,
        infer=lambda images: torch.from_numpy(run(images)),
    )


def _names(network: Any) -> dict[int, str]:
    names = network.names
    return {int(k): str(v) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}


def _stride(network: Any) -> int:
    return max(32, int(network.stride.max()))


def _class_numbers(model: YoloModel, names: Sequence[str] | None) -> list[int] | None:
    if names is None:
        return None
    numbers = {name.casefold(): number for number, name in model.names.items()}
    unknown = [name for name in names if name.casefold() not in numbers]
    if unknown:
        near = difflib.get_close_matches(unknown[0].casefold(), numbers, n=3) or sorted(numbers)[:12]
        raise OptionError(f"detections.classes: the model knows no {unknown[0]!r}; near: {', '.join(near)}")
    return [numbers[name.casefold()] for name in names]


def _detect_same_size(
    model: YoloModel,
    images: list[np.ndarray],
    source_size: tuple[int, int],
    options: DetectionOptions,
    classes: list[int] | None,
) -> list[list[Box]]:
    import torch
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    batch = _letterbox(images, options.image_size, model.stride)
    with model.lock, torch.inference_mode():
        kept = non_max_suppression(
            model.infer(batch),
            options.confidence,
            options.iou,
            classes=classes,
            max_det=options.max_boxes,
            nc=len(model.names),
            max_time_img=NMS_SECONDS_PER_IMAGE,
            end2end=model.end2end,
        )
        rows = [
            [*scale_boxes(batch.shape[1:3], row[:, :4], images[0].shape).T.tolist(), *row[:, 4:6].T.tolist()]
            for row in kept
        ]
    height, width = images[0].shape[:2]
    scale_x, scale_y = source_size[0] / width, source_size[1] / height
    return [
        [
            Box(
                xyxy=(round(x1 * scale_x, 2), round(y1 * scale_y, 2), round(x2 * scale_x, 2), round(y2 * scale_y, 2)),
                class_=model.names[int(number)],
                confidence=round(confidence, 4),
            )
            for x1, y1, x2, y2, confidence, number in sorted(
                zip(*row, strict=True), key=lambda box: (-box[4], box[5], *box[:4])
            )
        ]
        for row in rows
    ]


def _letterbox(images: list[np.ndarray], size: int, stride: int) -> np.ndarray:
    """BGR images of one size to one RGB uint8 batch (B, H, W, 3): longer side `size`, padded to the stride.

    The arithmetic is that of ultralytics.data.augment.LetterBox with auto=True.
    """
    import cv2

    height, width = images[0].shape[:2]
    ratio = min(size / height, size / width)
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    pad_x, pad_y = (size - new_width) % stride / 2, (size - new_height) % stride / 2
    left, right, top, bottom = round(pad_x - 0.1), round(pad_x + 0.1), round(pad_y - 0.1), round(pad_y + 0.1)
    batch = np.full((len(images), new_height + top + bottom, new_width + left + right, 3), PADDING, np.uint8)
    for canvas, image in zip(batch, images, strict=True):
        resized = image
        if (width, height) != (new_width, new_height):
            resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        canvas[top : top + new_height, left : left + new_width] = resized[..., ::-1]
    return batch
