"""Pictures as SigLIP's image processor prepares them, a batch at a time and on the device that the network runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocessing:
    """What preprocessor_config.json asks for: scale to a square, multiply, subtract the mean, divide."""

    side: int
    """Width and height of the network's input, pixels."""
    resample: str
    """torchvision's name of the interpolation: bilinear, bicubic, lanczos."""
    factor: float
    """Pixel values are multiplied with it."""
    mean: tuple[float, float, float]
    """Of red, green and blue, after the multiplication."""
    std: tuple[float, float, float]


def preprocess(images: list[np.ndarray], how: Preprocessing, device: str, precision: str) -> torch.Tensor:
    """BGR uint8 pictures (H, W, 3) of one size to (B, 3, side, side) RGB on the device, in the network's precision.

    The arithmetic is that of transformers' SiglipImageProcessor: antialiased scaling of bytes to bytes, then float32.
    """
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional  # type: ignore[import-untyped]

    mode = InterpolationMode(how.resample)
    size = [how.side, how.side]

    def scaled(batch: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2)
        resized: torch.Tensor = functional.resize(planes, size, mode, antialias=True)
        return resized

    if device == "cpu":
        small = torch.cat([scaled(np.ascontiguousarray(image)[None]) for image in images])
    else:
        small = scaled(np.stack(images))
    pixels = small.flip(1).to(torch.float32)
    scale = torch.tensor(how.std, device=device) / how.factor
    shift = torch.tensor(how.mean, device=device) / how.factor
    pixels = pixels.sub_(shift[:, None, None]).div_(scale[:, None, None])
    return pixels.to(getattr(torch, precision)).contiguous()
