"""Tables to search in: a million frame vectors and a hundred thousand segments, and copies of one real result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.publish.tables import SCHEMAS
from tasks.core.search.rows import TABLES, Versions
from tasks.records.results import VIEWS, result_path, table_path
from tasks.store import Store

MODEL = "5" * 64
FRAMES_PER_MEDIA = 500
FRAMES_PER_SCENE = 20
DIRECTIONS = 96
"""Of the space that scenes vary in; each next one matters less, as in the embeddings of real frames."""

WORDS = 20_000
WORDS_PER_SEGMENT = 12
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """What can be asked of a large corpus, with the right answers."""

    questions: NDArray[np.float32]
    """(Q, D) unit vectors."""
    nearest: list[set[tuple[str, float]]]
    """Of each question, the ten nearest frames by exact comparison: (media, time)."""
    words: list[str]
    """From the most frequent to the rarest."""


def media_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def large_corpus(folder: Path, frames: int, segments: int, size: int, questions: int) -> Made:
    """Writes parts of `frames` vectors of `size` numbers and of `segments` segments."""
    rng = np.random.default_rng(size)
    basis = rng.standard_normal((DIRECTIONS, size)).astype(np.float32) / np.sqrt(DIRECTIONS)
    spread = np.power(np.arange(1, DIRECTIONS + 1), -0.3, dtype=np.float32)
    words = _words(rng)
    asked = _unit((rng.standard_normal((questions, DIRECTIONS)) * spread).astype(np.float32) @ basis
                  + 0.3 * rng.standard_normal((questions, size)).astype(np.float32))  # fmt: skip
    best: list[list[tuple[float, str, float]]] = [[] for _ in range(questions)]
    media = max(1, frames // FRAMES_PER_MEDIA)
    chance = 1.0 / np.arange(1, WORDS + 1)
    for number in range(media):
        scenes = rng.standard_normal((FRAMES_PER_MEDIA // FRAMES_PER_SCENE, DIRECTIONS)).astype(np.float32) * spread
        places = np.repeat(scenes, FRAMES_PER_SCENE, axis=0)
        places += 0.25 * rng.standard_normal(places.shape).astype(np.float32)
        vectors = _unit(places @ basis + 0.15 * rng.standard_normal((FRAMES_PER_MEDIA, size)).astype(np.float32))
        cosines = vectors @ asked.T
        for question, column in enumerate(cosines.T):
            top = np.argpartition(-column, 10)[:10]
            best[question] = sorted(
                [*best[question], *((float(column[at]), media_id(number), float(at)) for at in top)], reverse=True
            )[:10]
        count = segments // media
        said = rng.choice(WORDS, (count, WORDS_PER_SEGMENT), p=chance / chance.sum())
        _write_media(folder, number, vectors, [" ".join(words[word] for word in row) for row in said])
    return Made(asked, [{(media, time) for _, media, time in found} for found in best], words)


def large_parts(folder: Path) -> tuple[dict[str, Versions], Callable[[str, str, str], Path]]:
    """What the corpora are opened with."""
    parts: dict[str, dict[str, str]] = {}
    for table in TABLES:
        for part in (folder / "tables" / table).glob("*/part.parquet"):
            parts.setdefault(part.parent.name.removeprefix("media_id="), {})[table] = str(part.stat().st_mtime_ns)
    return dict(parts), lambda table, media, version: folder / table_path(table, media)


def copy_result(source: Store, target: Store, copies: int, size: int) -> None:
    """Copies of the one media of a store: times shifted, words changed for others of the same transcript.

    Each copy gets 16 random vectors of `size` numbers for every ten seconds, for its own are those of a small model.
    """
    [media] = {path.split("/")[1] for path in source.list("media") if path.endswith("/result.json")}
    tables = {name: pq.ParquetFile(source.local(table_path(name, media))).read() for name in TABLES}
    record = source.read(result_path(media))
    track = source.read(f"media/{media}/{VIEWS['storyboard_vtt']}")
    assert record is not None, "the source has no result"
    vocabulary = sorted({word for text in tables["transcripts"]["text"].to_pylist() for word in text.split()})
    for number in range(copies):
        rng = np.random.default_rng(number)
        name = media_id(number)
        others = dict(zip(vocabulary, rng.permutation(vocabulary), strict=True))
        target.write(result_path(name), record[0].replace(media.encode(), name.encode()))
        if track:
            target.write(f"media/{name}/{VIEWS['storyboard_vtt']}", track[0])
        for table, rows in tables.items():
            if table == "embeddings":
                rows = _vectors(tables["runs"], size, rng)
            changed = _copied(rows.cast(SCHEMAS[table]), name, number, others)
            with target.workspace() as work:
                pq.write_table(changed, work / "part.parquet", compression="zstd")
                target.put(table_path(table, name), work / "part.parquet")


def _copied(rows: pa.Table, name: str, number: int, others: dict[str, str]) -> pa.Table:
    def replaced(rows: pa.Table, column: str, values: Any) -> pa.Table:
        at = rows.schema.get_field_index(column)
        return rows.set_column(at, rows.schema.field(at), values)

    ids = pa.array([name] * rows.num_rows).cast(rows.schema.field("media_id").type)
    rows = replaced(rows, "media_id", ids)
    for column in {"start", "end", "time"} & set(rows.schema.names):
        rows = replaced(rows, column, pc.add(rows[column], float(number % 50) / 10))
    if "segments" in rows.schema.names:
        source = f"s3://recordings/camera={number % 20}/{20260101 + number % 28}T{number % 24:02d}0000Z-{number}.mp4"
        return replaced(replaced(rows, "source", pa.array([source])), "camera", pa.array([str(number % 20)]))
    if "no_speech_prob" in rows.schema.names:
        texts = [" ".join(others[word] for word in text.split()) for text in rows["text"].to_pylist()]
        return replaced(rows, "text", pa.array(texts))
    return rows


def _vectors(runs: pa.Table, size: int, rng: np.random.Generator) -> pa.Table:
    duration_s = runs["duration_s"][0].as_py()
    times = np.arange(0.0, duration_s, 10 / 16)
    vectors = _unit(rng.standard_normal((len(times), size)).astype(np.float32))
    return _embedding_rows("", runs["result_key"][0].as_py(), times, vectors)


def _write_media(folder: Path, number: int, vectors: NDArray[np.float32], texts: list[str]) -> None:
    name, key = media_id(number), f"{number:064x}"
    times = np.arange(len(vectors), dtype=np.float64)
    each_s = len(vectors) / max(len(texts), 1)
    common = {"media_id": name, "result_key": key}
    said = [
        {**common, "segment": at, "start": at * each_s, "end": (at + 1) * each_s, "text": text, "language": "en"}
        for at, text in enumerate(texts)
    ]
    run = {
        **common,
        "source": f"s3://recordings/{number}.mp4",
        "created": CREATED,
        "duration_s": float(len(vectors)),
        "frames_sampled": len(vectors),
    }
    tables = {
        "transcripts": pa.Table.from_pylist(said, schema=SCHEMAS["transcripts"]),
        "embeddings": _embedding_rows(name, key, times, vectors),
        "runs": pa.Table.from_pylist([run], schema=SCHEMAS["runs"]),
    }
    for table, rows in tables.items():
        part = folder / table_path(table, name)
        part.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, part, compression="zstd", compression_level=1)


def _embedding_rows(name: str, key: str, times: NDArray[np.float64], vectors: NDArray[np.float32]) -> pa.Table:
    count, size = vectors.shape
    columns = {
        "media_id": pa.array([name] * count),
        "result_key": pa.array([key] * count),
        "frame": pa.array(range(count), pa.int32()),
        "time": pa.array(times),
        "model": pa.array([MODEL] * count),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size).cast(pa.list_(pa.float32())),
    }
    return pa.table(columns).cast(SCHEMAS["embeddings"])


def _words(rng: np.random.Generator) -> list[str]:
    """Different ones of two to four syllables."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    made: dict[str, None] = {}
    while len(made) < WORDS:
        made["".join(rng.choice(syllables, rng.integers(2, 5)))] = None
    return list(made)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
