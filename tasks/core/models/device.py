"""Where a network runs, and how precisely: what `device` and `precision` of a stage's options mean on this host."""

from __future__ import annotations

from tasks.core.errors import ToolFailed


def choose_device(device: str, stage: str) -> str:
    """auto is cuda where torch sees a GPU, else cpu. Raises ToolFailed where a GPU is asked for and none is seen."""
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ToolFailed(f"{stage}.device=cuda, but torch sees no GPU here; use cpu or auto, or mend the driver")
    return "cpu"


def choose_precision(precision: str, device: str, stage: str) -> str:
    """auto is float16 on a GPU, else float32. Raises ToolFailed for float16 on a CPU: no fault of the media."""
    if precision == "auto":
        return "float16" if device == "cuda" else "float32"
    if precision == "float16" and device == "cpu":
        raise ToolFailed(f"{stage}.precision=float16 needs a GPU; use float32 or auto")
    return precision
