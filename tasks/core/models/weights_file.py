"""One file of weights, whatever it is for: its digest, whether a GPU is there for it, and the error when it is not."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import ModelNotFound
from tasks.core.schema import ModelInfo


@dataclass(frozen=True)
class WeightsFile:
    """Weights on this machine, and what results say about them."""

    path: Path
    info: ModelInfo


def file_digest(path: Path) -> str:
    """sha256 in hex; computed once per process for the same size and modification time."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_gpu(gpu: bool | None = None) -> bool:
    """Whether an NVIDIA GPU is visible; torch is asked only if it is loaded already."""
    if gpu is not None:
        return gpu
    if (torch := sys.modules.get("torch")) is not None:
        return bool(torch.cuda.is_available())
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


def not_found(what: str, folders: list[Path], name: str) -> ModelNotFound:
    """The error that names what is missing, the folders and the command that gets `name`."""
    looked = ", ".join(map(str, folders)) or "no folder is configured (REELFLOW_MODELS_DIR)"
    return ModelNotFound(
        f"{what}: not found; looked in {looked}. Put it there, or get it with: python -m flows models fetch {name}"
    )
