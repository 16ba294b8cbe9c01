"""YOLO on a CPU through OpenVINO: exported once per weights file, cached on disk, shared by the processes of a host."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import ToolFailed

EXPORT_VERSION = 2
EXPORTED = ("model.xml", "model.bin")
LOCK_SECONDS = 900
"""Longest wait for another process that is exporting the same weights."""


def installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """openvino, without the telemetry that it sends at import: it does without where that package is missing."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def compiled(
    network: Callable[[], tuple[Any, dict[str, Any]]], digest: str, cache_dir: Path, threads: int
) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """A function from RGB uint8 (B, H, W, 3) to predictions (B, 4 + classes, anchors), and facts about the network.

    `network` gives the torch module and its facts; it is called only where the export is not cached.  Input sizes are
    free, so that one export serves every frame size.  Weights stay float32: boxes are those of torch within 0.01 px.
    An export whose digests are not those that were noted when it was made is made again.
    """
    from filelock import FileLock

    openvino = import_openvino()
    release = openvino.get_version().split("-")[0]
    folder = cache_dir / "openvino" / f"{digest[:32]}-{release}-{EXPORT_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock"), timeout=LOCK_SECONDS):
        facts = _facts(folder)
        if facts is None:
            _export(network, folder)
            facts = _facts(folder)
    if facts is None:
        raise ToolFailed(f"{folder} changes while it is read; see what writes to it, or set REELFLOW_CACHE_DIR")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # every process would pin its threads to the same first cores
    }
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
    request = model.create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(request.infer([images])[0])

    return run, facts


def _facts(folder: Path) -> dict[str, Any] | None:
    """What was noted of a whole export; None where there is none, or its files are not those that were written."""
    try:
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return facts if facts["sha256"] == _digests(folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for name in EXPORTED:
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _export(network: Callable[[], tuple[Any, dict[str, Any]]], folder: Path) -> None:
    """Writes model.xml, model.bin and facts.json into `folder`, which appears whole or not at all."""
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    openvino = import_openvino()
    module, facts = network()
    head = module.model[-1]
    head.export, head.format, head.dynamic = True, "openvino", True
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # openvino.convert_model does the same, and reports it to its maker
        decoder = TorchScriptPythonDecoder(module, example_input=(torch.zeros(2, 3, 64, 96),))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, 3, -1, -1])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    model = steps.build()
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".export-"))
    try:
        openvino.save_model(model, partial / "model.xml", compress_to_fp16=False)
        (partial / "facts.json").write_text(json.dumps({**facts, "sha256": _digests(partial)}), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
