"""Table rows of a media as a search needs them: the one place where both backends get them from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.embeddings import MAX_DIMENSIONS
from tasks.core.publish.tables import SCHEMAS
from tasks.core.search.corpus import Boxes, MediaFacts, TextRow, TextTable
from tasks.core.search.query import MEDIA_ID, MODEL
from tasks.core.search.words import terms_of

log = logging.getLogger("reelflow.search")

TABLES: Final = ("transcripts", "detections", "scenes", "tags", "embeddings", "runs")
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "transcripts": ("start", "end", "text", "language"),
    "detections": ("frame", "time", "class", "confidence"),
    "scenes": ("time",),
    "tags": ("chunk", "start", "end", "kind", "text", "score"),
    "embeddings": ("frame", "time", "model", "vector"),
    "runs": ("source", "camera", "recorded", "created", "duration_s", "frames_sampled"),
}
"""What is read of each table, beside media_id and result_key."""

NULLABLE: Final = frozenset(("chunk", "language", "camera", "recorded", "frames_sampled"))
"""Columns in which nothing may stand; a row with a gap elsewhere, or a number that is none, is left out."""

TEXT_TABLES: Final[Mapping[TextTable, str]] = {"speech": "transcripts", "tags": "tags"}

BANK_LANGUAGE: Final = "en"
"""Of tags and captions."""

KEPT: Final = np.float16
"""What vectors are rounded to before they are compared: half the size, and a cosine that differs by 1e-4 at most."""


@dataclass(frozen=True)
class Vectors:
    """The embedded frames of one media, in order."""

    model: str
    numbers: NDArray[np.int32]
    """Ordinals among these frames: neighbours differ by one."""
    times: NDArray[np.float64]
    until: NDArray[np.float64]
    vectors: NDArray[np.float32]
    """(T, D), rounded to KEPT."""

    @property
    def total(self) -> NDArray[np.float64]:
        """Their sum."""
        return np.asarray(self.vectors.sum(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class MediaRows:
    """All of one media that can be found."""

    facts: MediaFacts
    texts: Mapping[TextTable, list[tuple[TextRow, str | None]]]
    """With the language of each."""
    boxes: Mapping[str, Boxes]
    """By class."""
    vectors: Vectors | None


Versions = Mapping[str, str]
"""Version of each table's part of one media; a version changes whenever the part does."""

ReadPart = Callable[[str, str, str], Path]
"""(table, media_id, version) to a local file; what it raises stops the search."""


def load_media(read: ReadPart, media_id: str, versions: Versions) -> MediaRows | None:
    """The rows of one media; None where its `runs` part is missing or damaged.

    Rows that belong to another result than the one that `runs` names are left out: a run is writing them just now, or
    was killed while it did. So are damaged parts, with a warning.
    """
    parts = _Parts(read, media_id, versions)
    runs = parts.table("runs", None)
    if runs is None or runs.num_rows != 1:
        return None
    key = runs["result_key"][0].as_py()
    found = {name: parts.table(name, key) for name in TABLES if name != "runs"}
    facts = facts_of(runs, found["scenes"])
    texts = {
        table: list(text_rows(table, media_id, rows)) if (rows := found[name]) is not None else []
        for table, name in TEXT_TABLES.items()
    }
    boxes, embedded = found["detections"], found["embeddings"]
    return MediaRows(
        facts,
        texts,
        boxes_of(boxes) if boxes is not None else {},
        vectors_of(embedded, facts.duration_s) if embedded is not None else None,
    )


def load_vectors(read: ReadPart, facts: MediaFacts, version: str) -> Vectors | None:
    """Only the embedded frames of a media."""
    parts = _Parts(read, facts.media_id, {"embeddings": version})
    found = parts.table("embeddings", facts.result_key)
    return vectors_of(found, facts.duration_s) if found is not None else None


@dataclass(frozen=True)
class _Parts:
    read: ReadPart
    media_id: str
    versions: Versions

    def table(self, name: str, key: str | None) -> pa.Table | None:
        """The rows of one part that belong to the media and to a result; None where there is no such part."""
        version = self.versions.get(name)
        if version is None or not MEDIA_ID.fullmatch(self.media_id):
            return None
        wanted = ["media_id", "result_key", *COLUMNS[name]]
        path = self.read(name, self.media_id, version)
        try:
            with pq.ParquetFile(path) as file:
                if not file.metadata.num_rows:
                    return None
                found = file.read(columns=wanted, use_threads=False)
            found = found.select(wanted).cast(pa.schema([SCHEMAS[name].field(column) for column in wanted]))
        except (pa.ArrowException, OSError, KeyError) as error:
            log.warning("Left out of the search: table %s of media %s cannot be read (%s).", name, self.media_id, error)
            return None
        ours = pc.equal(found["media_id"].cast(pa.string()), self.media_id)
        if key is not None:
            ours = pc.and_(ours, pc.equal(found["result_key"], key))
        for column in (column for column in COLUMNS[name] if column not in NULLABLE):
            ours = pc.and_(ours, pc.is_valid(found[column]))
            if pa.types.is_floating(found[column].type):
                ours = pc.and_(ours, pc.is_finite(found[column]))
        return found.filter(ours)


def facts_of(runs: pa.Table, scenes: pa.Table | None) -> MediaFacts:
    """The facts of the media whose one row this is."""
    row = {name: column[0] for name, column in runs.to_pydict().items()}
    frames, duration_s = row["frames_sampled"] or 0, row["duration_s"] or 0.0
    cuts = sorted(set(scenes["time"].to_pylist())) if scenes is not None else []
    return MediaFacts(
        media_id=row["media_id"],
        result_key=row["result_key"],
        source=row["source"],
        camera=row["camera"],
        when=row["recorded"] or row["created"],
        duration_s=duration_s,
        step_s=duration_s / frames if frames else 0.0,
        cuts=tuple(cuts),
    )


def text_rows(table: TextTable, media_id: str, found: pa.Table) -> Iterator[tuple[TextRow, str | None]]:
    """Rows of `transcripts` (speech) or `tags`, and the language of each."""
    columns = found.to_pydict()
    if table == "speech":
        for start, end, text, language in zip(
            columns["start"], columns["end"], columns["text"], columns["language"], strict=True
        ):
            yield TextRow(media_id, start, end, text, terms_of(text, language)), language
        return
    for chunk, start, end, label, text, score in zip(*(columns[name] for name in COLUMNS["tags"]), strict=True):
        terms = terms_of(text, BANK_LANGUAGE)
        yield TextRow(media_id, start, end, text, terms, label, chunk is None, score), BANK_LANGUAGE


def boxes_of(found: pa.Table) -> dict[str, Boxes]:
    """Boxes of `detections` by class; the media is the first of a list."""
    order = np.lexsort((found["time"].to_numpy(), found["frame"].to_numpy()))
    frames = found["frame"].to_numpy()[order]
    times = found["time"].to_numpy()[order]
    confidences = found["confidence"].to_numpy()[order]
    encoded = found["class"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()[order]
    return {
        name: Boxes(np.zeros(len(at), np.int64), frames[at], times[at], confidences[at])
        for code, name in enumerate(encoded.dictionary.to_pylist())
        for at in [np.flatnonzero(codes == code)]
    }


def boxes_together(parts: Sequence[tuple[int, Boxes]]) -> Boxes:
    """Boxes of one class in several media, each with the position of its media, as one."""
    return Boxes(
        np.repeat([position for position, _ in parts], [len(boxes.frames) for _, boxes in parts]).astype(np.int64),
        np.concatenate([boxes.frames for _, boxes in parts]),
        np.concatenate([boxes.times for _, boxes in parts]),
        np.concatenate([boxes.confidences for _, boxes in parts]),
    )


def vectors_of(found: pa.Table, duration_s: float) -> Vectors | None:
    """The rows of `embeddings` of one media; None where they are no vectors of one length and of one model."""
    column = found["vector"].combine_chunks()
    if not len(column):
        return None
    flat = column.flatten().to_numpy()
    size, rest = divmod(len(flat), len(column))
    model = found["model"][0].as_py()
    if not MODEL.fullmatch(model) or size > MAX_DIMENSIONS:
        return None
    if rest or not size or np.any(np.diff(column.offsets.to_numpy()) != size) or not np.isfinite(flat).all():
        return None
    order = np.argsort(found["frame"].to_numpy(), kind="stable")
    times = found["time"].to_numpy()[order]
    until = np.append(times[1:], max(duration_s, times[-1]))
    vectors = flat.reshape(-1, size)[order].astype(KEPT).astype(np.float32)
    return Vectors(model, np.arange(len(times), dtype=np.int32), times, until, vectors)


def means(totals: Iterable[tuple[str, int, NDArray[Any]]]) -> dict[str, NDArray[np.float32]]:
    """Of each model the mean of its vectors; a total is (model, frames, sum of their vectors).

    Where vectors of a model differ in length, those of the first media's length count.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for model, count, total in totals:
        if model not in sums:
            sums[model] = np.zeros(len(total))
            counts[model] = 0
        if len(total) == len(sums[model]):
            sums[model] += total
            counts[model] += count
    return {model: (total / counts[model]).astype(np.float32) for model, total in sums.items()}
