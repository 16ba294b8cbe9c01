"""A text bank as one model sees it: vectors of its tags and descriptions."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.core.archive import check_stored
from tasks.core.errors import DamagedArtifact
from tasks.core.text_bank import TextBank

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""N texts to (N, D) vectors of length 1."""


@dataclass(frozen=True)
class BankVectors:
    """A bank as one model sees it. Rows have length 1, in the order of the texts."""

    tags: list[str]
    tag_vectors: Vectors
    """(number of tags, D)"""
    descriptions: list[str]
    description_vectors: Vectors
    """(number of descriptions, D)"""
    logit_scale: float
    """Of the model's own sigmoid: logarithm of the factor, and the summand."""
    logit_bias: float

    def probability(self, cosine: float) -> float:
        """How likely the model thinks that a text of this cosine belongs to the picture, 0 to 1."""
        return float(0.5 * (1 + np.tanh((cosine * np.exp(self.logit_scale) + self.logit_bias) / 2)))


def embed_bank(bank: TextBank, embed: Embed, logit_scale: float, logit_bias: float) -> BankVectors:
    """The bank's vectors: a tag's is the mean over its templates, made length 1 again."""
    sentences = [template.replace("{}", tag) for tag in bank.tags for template in bank.templates]
    means = embed(sentences).reshape(len(bank.tags), len(bank.templates), -1).mean(axis=1)
    return BankVectors(
        tags=list(bank.tags),
        tag_vectors=means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny),
        descriptions=list(bank.descriptions),
        description_vectors=embed(bank.descriptions).reshape(len(bank.descriptions), means.shape[1]),
        logit_scale=logit_scale,
        logit_bias=logit_bias,
    )


def save_vectors(found: BankVectors, path: Path) -> None:
    """Writes one .npz file, without pickles."""
    np.savez(
        path,
        tags=np.asarray(found.tags, np.str_),
        tag_vectors=found.tag_vectors,
        descriptions=np.asarray(found.descriptions, np.str_),
        description_vectors=found.description_vectors,
        logits=np.asarray([found.logit_scale, found.logit_bias], np.float64),
    )


def load_vectors(path: Path) -> BankVectors:
    """Reads what save_vectors wrote. Raises DamagedArtifact when the file is damaged."""
    try:
        check_stored(path)
        with np.load(path, allow_pickle=False) as stored:
            scale, bias = stored["logits"].tolist()
            found = BankVectors(
                tags=stored["tags"].tolist(),
                tag_vectors=stored["tag_vectors"],
                descriptions=stored["descriptions"].tolist(),
                description_vectors=stored["description_vectors"],
                logit_scale=scale,
                logit_bias=bias,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedArtifact(f"{path}: damaged text bank") from error
    pairs = ((found.tags, found.tag_vectors), (found.descriptions, found.description_vectors))
    if any(vectors.ndim != 2 or len(texts) != len(vectors) for texts, vectors in pairs):
        raise DamagedArtifact(f"{path}: damaged text bank")
    return found
