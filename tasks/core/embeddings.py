"""Vectors of sampled frames, and the one file that a batch of them is stored in."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.core.archive import check_stored
from tasks.core.errors import DamagedArtifact

MAX_DIMENSIONS = 8192


@dataclass(frozen=True)
class Embeddings:
    """T frames in order of time, as vectors of one model."""

    slots: list[int]
    """Ordinal of each frame among those of the media."""
    times: list[float]
    """Media time of each frame, seconds."""
    vectors: npt.NDArray[np.float32]
    """(T, D), each of length 1."""

    def __len__(self) -> int:
        return len(self.slots)


def save_embeddings(found: Embeddings, path: Path) -> None:
    """Writes one .npz file: slots (T,) int64, times (T,) float64, vectors (T, D) float32."""
    np.savez(
        path,
        slots=np.asarray(found.slots, np.int64),
        times=np.asarray(found.times, np.float64),
        vectors=np.asarray(found.vectors, np.float32),
    )


def load_embeddings(path: Path) -> Embeddings:
    """Reads what save_embeddings wrote. Raises DamagedArtifact when the artifact is damaged."""
    try:
        check_stored(path)
        with np.load(path, allow_pickle=False) as stored:
            slots, times, vectors = stored["slots"], stored["times"], stored["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedArtifact(f"{path}: no stored embeddings") from error
    if vectors.ndim != 2 or not slots.shape == times.shape == vectors.shape[:1] or vectors.shape[1] > MAX_DIMENSIONS:
        raise DamagedArtifact(f"{path}: damaged embeddings")
    return Embeddings(slots.tolist(), times.tolist(), vectors)


def concatenate(batches: Sequence[Embeddings]) -> Embeddings:
    """The batches as one, in order of time, each slot once."""
    filled = [batch for batch in batches if len(batch)]
    if not filled:
        return Embeddings([], [], np.zeros((0, 0), np.float32))
    slots, first = np.unique(np.concatenate([batch.slots for batch in filled]), return_index=True)
    times = np.concatenate([batch.times for batch in filled])[first]
    return Embeddings(slots.tolist(), times.tolist(), np.concatenate([batch.vectors for batch in filled])[first])
