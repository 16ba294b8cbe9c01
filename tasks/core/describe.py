"""Zero-shot tags and a caption: the texts of a bank that a video's frame vectors are nearest to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.core.bank_vectors import BankVectors
from tasks.core.embeddings import Embeddings
from tasks.core.options import EmbeddingOptions
from tasks.core.schema import Caption, Chunk, Description, Tag


def describe(found: Embeddings, bank: BankVectors, options: EmbeddingOptions, top: int, end: float) -> Description:
    """The `top` nearest tags and the nearest description, per chunk of options.chunk_s and for the media.

    A chunk's score of a text is the cosine between the text's vector and the mean of the chunk's frame vectors.  The
    media's score of a tag is the mean over its chunks; its caption is the best one of any chunk, with that chunk's
    times.  `end` is the media's length in seconds.
    """
    if not len(found):
        return Description()
    numbers = np.asarray(found.slots) // options.frames_per_chunk
    starts = np.unique(numbers)
    means = np.stack([_unit(found.vectors[numbers == number].mean(axis=0)) for number in starts])
    tag_scores, caption_scores = means @ bank.tag_vectors.T, means @ bank.description_vectors.T
    chunks = []
    for row, number in enumerate(starts.tolist()):
        start, stop = number * options.chunk_s, min((number + 1) * options.chunk_s, max(end, number * options.chunk_s))
        chunks.append(
            Chunk(
                start=start,
                end=stop,
                tags=_best(tag_scores[row], top, bank),
                caption=_caption(bank.descriptions, caption_scores[row], start, stop),
            )
        )
    captions = [chunk.caption for chunk in chunks if chunk.caption]
    return Description(
        tags=_best(tag_scores.mean(axis=0), top, bank),
        caption=max(captions, key=lambda caption: caption.score, default=None),
        chunks=chunks,
    )


def _unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


def _best(scores: npt.NDArray[np.float32], top: int, bank: BankVectors) -> list[Tag]:
    order = np.argsort(-scores, kind="stable")[:top]
    return [
        Tag(
            text=bank.tags[at],
            score=round(float(scores[at]), 6),
            probability=round(bank.probability(float(scores[at])), 6),
        )
        for at in order.tolist()
    ]


def _caption(texts: list[str], scores: npt.NDArray[np.float32], start: float, end: float) -> Caption | None:
    if not texts:
        return None
    at = int(np.argmax(scores))
    return Caption(text=texts[at], score=round(float(scores[at]), 6), start=start, end=end)
