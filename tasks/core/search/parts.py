"""A corpus straight from the Parquet tables of each media: nothing to build, everything read once.

What was read is kept as long as a part's version stays; vectors only up to a bound, beyond it they are read anew for
each question. Fit for some thousand media; for more, or for answers at once in a new process, there is `lance.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.core.search.corpus import Frame, MediaFacts, Scope, Sighted, TextRow, TextTable, blocks, nearest
from tasks.core.search.rows import (
    TEXT_TABLES,
    MediaRows,
    ReadPart,
    Vectors,
    Versions,
    boxes_together,
    load_media,
    load_vectors,
    means,
)
from tasks.core.search.words import Vocabulary, Wanted

HELD_BYTES: Final = 2**30
"""Vectors that are kept in memory."""

READERS: Final = 16
"""Parts that are fetched at the same time: a bucket answers each after its round trip."""


@dataclass(frozen=True)
class _Held:
    versions: Versions
    rows: MediaRows | None
    """Without vectors where there are too many of them."""
    total: tuple[str, int, NDArray[np.float64]] | None
    """(model, frames, sum of their vectors)"""


class PartsCorpus:
    """Empty until `refresh`. Safe for several threads as long as none refreshes."""

    def __init__(self, read: ReadPart, held_bytes: int = HELD_BYTES) -> None:
        self._read = read
        self._held_bytes = held_bytes
        self._held: dict[str, _Held] = {}

    def refresh(self, parts: Mapping[str, Versions]) -> None:
        """Takes note of new, changed and missing parts, given by media; what is unchanged is not read again."""
        stale = [m for m, versions in parts.items() if m not in self._held or self._held[m].versions != versions]
        kept = {media_id: held for media_id, held in self._held.items() if media_id in parts}
        if not stale and len(kept) == len(self._held):
            return
        for media_id in stale:
            kept.pop(media_id, None)
        room = self._held_bytes - sum(
            held.rows.vectors.vectors.nbytes for held in kept.values() if held.rows and held.rows.vectors
        )
        with ThreadPoolExecutor(READERS) as pool:
            loaded = pool.map(lambda media_id: load_media(self._read, media_id, parts[media_id]), stale)
            for media_id, rows in zip(stale, loaded, strict=True):
                vectors = rows.vectors if rows else None
                total = (vectors.model, len(vectors.times), vectors.total) if vectors else None
                if rows and vectors:
                    room -= vectors.vectors.nbytes
                    rows = rows if room >= 0 else replace(rows, vectors=None)
                    room += vectors.vectors.nbytes if rows.vectors is None else 0
                kept[media_id] = _Held(parts[media_id], rows, total)
        self._held = kept
        for name in ("media", "classes", "_vocabularies", "_means"):
            self.__dict__.pop(name, None)

    @cached_property
    def media(self) -> Mapping[str, MediaFacts]:
        return {media_id: held.rows.facts for media_id, held in sorted(self._held.items()) if held.rows}

    @cached_property
    def classes(self) -> frozenset[str]:
        return frozenset(name for held in self._held.values() if held.rows for name in held.rows.boxes)

    @property
    def models(self) -> frozenset[str]:
        return frozenset(self._means)

    def vocabulary(self, table: TextTable) -> Vocabulary:
        return self._vocabularies[table]

    def texts(self, table: TextTable, wanted: Wanted, scope: Scope) -> Iterable[TextRow]:
        stems = frozenset(wanted.stems)
        for rows in self._inside(scope):
            for row, _ in rows.texts[table]:
                if not stems.isdisjoint(row.terms):
                    yield row

    def objects(self, names: frozenset[str], scope: Scope) -> Iterator[Sighted]:
        found = []
        for rows in self._inside(scope):
            boxes = {name: rows.boxes[name] for name in names if name in rows.boxes}
            if boxes:
                highest = max(float(each.confidences.max()) for each in boxes.values())
                found.append((-highest, rows.facts.media_id, boxes))
        found.sort(key=lambda entry: entry[:2])
        for block in blocks(found):
            parts = {name: [(n, seen[name]) for n, (_, _, seen) in enumerate(block) if name in seen] for name in names}
            together = {name: boxes_together(each) for name, each in parts.items() if each}
            yield Sighted([media_id for _, media_id, _ in block], -block[0][0], together)

    def frames(self, vector: NDArray[np.float32], model: str, count: int, scope: Scope) -> tuple[list[Frame], float]:
        mean = self._means.get(model)
        if mean is None or mean.shape != vector.shape:
            return [], 0.0
        best: list[Frame] = []
        least = -2.0
        for rows in self._inside(scope):
            found = self._vectors(rows)
            if found is None or found.model != model or found.vectors.shape[1] != len(vector):
                continue
            cosines = found.vectors @ vector
            inside = (found.times >= scope.start_s) & (found.times < scope.end_s)
            for at in np.flatnonzero(inside & (cosines >= least)):
                number, time, until = int(found.numbers[at]), float(found.times[at]), float(found.until[at])
                best.append(Frame(rows.facts.media_id, number, time, until, float(cosines[at])))
            if len(best) > 4 * count:
                best = nearest(best, count)
                least = best[-1].cosine - 1e-4
        return nearest(best, count), float(mean @ vector)

    def _inside(self, scope: Scope) -> Iterator[MediaRows]:
        for media_id in self.media:
            rows = self._held[media_id].rows
            if rows and (scope.media is None or media_id in scope.media):
                yield rows

    def _vectors(self, rows: MediaRows) -> Vectors | None:
        if rows.vectors is not None:
            return rows.vectors
        held = self._held[rows.facts.media_id]
        return load_vectors(self._read, rows.facts, held.versions["embeddings"]) if held.total else None

    @cached_property
    def _vocabularies(self) -> dict[TextTable, Vocabulary]:
        made = {table: Vocabulary() for table in TEXT_TABLES}
        for held in self._held.values():
            for table, vocabulary in made.items():
                for row, language in held.rows.texts[table] if held.rows else ():
                    vocabulary.add(row.text, language)
        return made

    @cached_property
    def _means(self) -> Mapping[str, NDArray[np.float32]]:
        return means(held.total for _, held in sorted(self._held.items()) if held.total)
