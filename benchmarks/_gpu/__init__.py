"""What `gpu_check` runs: one file for each part, in a process of its own, on sizes for a GPU or for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]
"""JSON of what a part found."""


@dataclass(frozen=True)
class Sizes:
    """How much work the parts do."""

    device: str
    frames: int
    """Different frames that are detected in and embedded."""
    rounds: int
    """How often all of them are timed; the median counts."""
    whisper: str
    """Name of the dimensions: benchmarks/whisper_batch.py."""
    windows: int
    batch: int
    """Windows decoded together."""
    tokens: int
    """Of each window."""
    siglip: str
    """Name of the dimensions: benchmarks/embeddings.py."""
    limits_s: Mapping[str, float]
    """Longest time of each part, in the order in which they run."""

    @property
    def precision(self) -> str:
        return "float16" if self.device == "cuda" else "float32"


ON_GPU = Sizes(
    device="cuda",
    frames=128,
    rounds=5,
    whisper="large-v3",
    windows=32,
    batch=16,
    tokens=100,
    siglip="so400m-patch14-384",
    limits_s={"detect": 90.0, "embed": 120.0, "words": 60.0, "speech": 200.0},
)
ON_CPU = Sizes(
    device="cpu",
    frames=2,
    rounds=1,
    whisper="tiny",
    windows=2,
    batch=2,
    tokens=10,
    siglip="base-patch16-224",
    limits_s={"detect": 115.0, "embed": 115.0, "words": 115.0, "speech": 115.0},
)
