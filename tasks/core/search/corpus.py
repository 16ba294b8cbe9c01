"""What a search needs to know of the analysed media: one interface, one file per implementation.

`parts.py` reads the Parquet tables of each media, `lance.py` an index built from them. Both hold rows made by `rows.py`
and only find candidates: what matches, how well and in which order is decided in one place for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.core.search.query import Query
from tasks.core.search.words import Vocabulary, Wanted

T = TypeVar("T")

TextTable = Literal["speech", "tags"]


@dataclass(frozen=True)
class Scope:
    """Where to look."""

    media: frozenset[str] | None = None
    """What the filters leave; None for all."""
    start_s: float = 0.0
    end_s: float = math.inf

    def has(self, start: float, end: float) -> bool:
        """Does a stretch of time, or an instant, lie in it in part?"""
        return start < self.end_s and (end > self.start_s or start >= self.start_s)


@dataclass(frozen=True)
class MediaFacts:
    """What the filters and the moments of a media are made of."""

    media_id: str
    result_key: str
    source: str
    camera: str | None
    when: datetime
    """Recorded, else analysed."""
    duration_s: float
    step_s: float
    """Between two sampled frames, on average; 0 where there are none."""
    cuts: tuple[float, ...] = ()
    """Scene changes, in order."""

    def passes(self, query: Query) -> bool:
        return not (
            (query.media and self.media_id not in query.media)
            or (query.prefix and not self.source.startswith(query.prefix))
            or (query.camera is not None and self.camera != query.camera)
            or (query.since and self.when < query.since)
            or (query.until and self.when >= query.until)
        )


class TextRow(NamedTuple):
    """Something said, or a tag or caption."""

    media_id: str
    start: float
    end: float
    text: str
    terms: list[str]
    label: str = ""
    """tag or caption; empty for speech."""
    whole: bool = False
    """It is about the media as a whole."""
    strength: float = 0.0
    """Of a tag or caption: cosine between the text and the frames."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of one class, in order of media and frames."""

    media: NDArray[np.int64]
    """Position of each one's media in a list of them."""
    frames: NDArray[np.int32]
    times: NDArray[np.float64]
    confidences: NDArray[np.float32]


class Sighted(NamedTuple):
    """Media in which classes were seen, and where."""

    media: list[str]
    highest: float
    """No box of these media, nor of any that come later, is surer."""
    boxes: Mapping[str, Boxes]


class Frame(NamedTuple):
    """An embedded frame, and how like the question's vector it is."""

    media_id: str
    number: int
    time: float
    until: float
    """Time of the next one, or the end of the media."""
    cosine: float


class Corpus(Protocol):
    @property
    def media(self) -> Mapping[str, MediaFacts]:
        """Every media that can be found, by id."""

    @property
    def classes(self) -> frozenset[str]:
        """Names of the objects that were detected."""

    @property
    def models(self) -> frozenset[str]:
        """Digests of the models whose vectors there are."""

    def vocabulary(self, table: TextTable) -> Vocabulary: ...

    def texts(self, table: TextTable, wanted: Wanted, scope: Scope) -> Iterable[TextRow]:
        """At least those rows that `wanted` matches best."""

    def objects(self, names: frozenset[str], scope: Scope) -> Iterator[Sighted]:
        """Media that have one of the classes, those with the surest box first, many at a time."""

    def frames(self, vector: NDArray[np.float32], model: str, count: int, scope: Scope) -> tuple[list[Frame], float]:
        """The `count` frames of this model nearest to a unit vector, and the mean cosine of all of them."""


FIRST_BLOCK: Final = 256
"""Media whose boxes are looked at first; each next block is four times as large."""


def blocks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Small ones first: where the best are among them, the rest is not looked at."""
    size, at = FIRST_BLOCK, 0
    while at < len(items):
        yield items[at : at + size]
        at, size = at + size, size * 4


def nearest(frames: Iterable[Frame], count: int) -> list[Frame]:
    """The `count` frames with the highest cosine; ties by media and number."""
    return sorted(frames, key=lambda frame: (-round(frame.cosine, 5), frame.media_id, frame.number))[:count]
