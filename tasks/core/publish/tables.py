"""The Parquet tables of one result: views that queries run over without opening result.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.embeddings import Embeddings
from tasks.core.schema import Chunk, Result

_KEYS: Final = (("media_id", pa.dictionary(pa.int32(), pa.string())), ("result_key", pa.string()))
"""A dictionary is the type that readers give a column which the path names (`media_id=...`): the two have to agree."""


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in _KEYS] + [pa.field(*c) for c in columns])


SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    "transcripts": _schema(
        ("segment", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("avg_logprob", pa.float32()),
        ("no_speech_prob", pa.float32()),
        ("temperature", pa.float32()),
        ("unsure", pa.bool_()),
    ),
    "words": _schema(
        ("segment", pa.int32()),
        ("word", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("text", pa.string()),
        ("probability", pa.float32()),
    ),
    "detections": _schema(
        ("frame", pa.int32()),
        ("time", pa.float64()),
        ("box", pa.int32()),
        ("class", pa.string()),
        ("confidence", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
    ),
    "scenes": _schema(("time", pa.float64()), ("method", pa.string()), ("score", pa.float32())),
    "tags": _schema(
        ("chunk", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("kind", pa.string()),
        ("rank", pa.int32()),
        ("text", pa.string()),
        ("score", pa.float32()),
        ("probability", pa.float32()),
    ),
    "embeddings": _schema(
        ("frame", pa.int32()),
        ("time", pa.float64()),
        ("model", pa.dictionary(pa.int32(), pa.string())),
        ("vector", pa.list_(pa.float32())),
    ),
    "runs": _schema(
        ("source", pa.string()),
        ("camera", pa.string()),
        ("recorded", pa.timestamp("us", tz="UTC")),
        ("created", pa.timestamp("us", tz="UTC")),
        ("schema_version", pa.int32()),
        ("duration_s", pa.float64()),
        ("bytes", pa.int64()),
        ("container", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("damaged", pa.bool_()),
        ("language", pa.string()),
        ("segments", pa.int32()),
        ("words", pa.int32()),
        ("transcript_gaps", pa.int32()),
        ("transcript_gaps_s", pa.float64()),
        ("transcript_dropped", pa.int32()),
        ("clips", pa.int32()),
        ("frames_sampled", pa.int32()),
        ("boxes", pa.int64()),
        ("classes", pa.map_(pa.string(), pa.int64())),
        ("stages", pa.int32()),
        ("stages_cached", pa.int32()),
        ("task_runs", pa.int32()),
        ("wall_s", pa.float64()),
        ("cpu_s", pa.float64()),
        ("gpu_s", pa.float64()),
        ("queue_s", pa.float64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("cost_usd", pa.float64()),
        ("models", pa.map_(pa.string(), pa.string())),
        ("demonstration", pa.bool_()),
    ),
}
"""Columns and types of each table. Times are media seconds; boxes are pixels of the source frame.

tags: `kind` is tag or caption, `rank` counts from 0 within its chunk, `chunk` is null for the media as a whole.
embeddings: `vector` has length 1, `model` is the digest of the weights that made it.  runs: `camera` and `recorded` are
what the source's name says (`camera=NAME/`, `20261121T140500Z`), else null; `transcript_gaps` counts stretches of
speech without text, `transcript_dropped` texts that the model made up where nobody speaks.
"""

CAMERA: Final = re.compile(r"(?:^|/)camera=([^/]+)/")
RECORDED: Final = re.compile(r"(?<!\d)(\d{8}T\d{6})(\.\d{1,6})?\d*Z")

Row = dict[str, Any]


def tables(result: Result, embeddings: Embeddings | None = None) -> dict[str, pd.DataFrame]:
    """`arrow_tables` as data frames, with the dtypes of their schemas (Arrow-backed)."""
    found = arrow_tables(result, embeddings)
    return {name: table.to_pandas(types_mapper=pd.ArrowDtype) for name, table in found.items()}


def arrow_tables(result: Result, embeddings: Embeddings | None = None) -> dict[str, pa.Table]:
    """Every table of one result by name; each has its schema, also when it has no rows."""
    keys = {"media_id": result.media_id, "result_key": result.key}
    rows = {name: rows_of(result) for name, rows_of in _ROWS.items()}
    rows["embeddings"] = _embeddings(result, embeddings) if embeddings else []
    return {
        name: pa.Table.from_pylist([{**keys, **row} for row in rows[name]], schema=schema)
        for name, schema in SCHEMAS.items()
    }


def write_table(frame: pa.Table | pd.DataFrame, path: Path, name: str) -> None:
    """One Parquet file (zstd) with exactly the schema of table `name`.

    Raises pyarrow.ArrowInvalid where the frame does not fit the schema, KeyError for an unknown table, ValueError for
    NaN and infinity: a value that is not there is null.
    """
    table: Any = frame
    if not isinstance(frame, pa.Table):
        table = pa.Table.from_pandas(frame, schema=SCHEMAS[name], preserve_index=False)
    table = table.cast(SCHEMAS[name])
    for column, values in zip(table.column_names, table.columns, strict=True):
        numbers = pc.list_flatten(values) if pa.types.is_list(values.type) else values
        if pa.types.is_floating(numbers.type) and not pc.all(pc.is_finite(numbers), min_count=0).as_py():
            raise ValueError(f"table {name}, column {column}: NaN or infinity")
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _transcripts(result: Result) -> Iterator[Row]:
    for segment in result.transcript.segments:
        yield {
            "segment": segment.id,
            "start": segment.start,
            "end": segment.end,
            "text": segment.text.strip(),
            "language": result.transcript.language,
            "avg_logprob": segment.avg_logprob,
            "no_speech_prob": segment.no_speech_prob,
            "temperature": segment.temperature,
            "unsure": segment.unsure,
        }


def _words(result: Result) -> Iterator[Row]:
    for segment in result.transcript.segments:
        for number, word in enumerate(segment.words or []):
            yield {
                "segment": segment.id,
                "word": number,
                "start": word.start,
                "end": word.end,
                "text": word.text.strip(),
                "probability": word.probability,
            }


def _detections(result: Result) -> Iterator[Row]:
    for frame in result.detections.frames:
        for number, box in enumerate(frame.boxes):
            x1, y1, x2, y2 = box.xyxy
            yield {
                "frame": frame.index,
                "time": frame.time,
                "box": number,
                "class": box.class_,
                "confidence": box.confidence,
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
            }


def _scenes(result: Result) -> Iterator[Row]:
    for scene in result.scenes:
        yield scene.model_dump()


def _tags(result: Result) -> Iterator[Row]:
    whole = Chunk(start=0.0, end=result.media.duration_s, tags=result.tags, caption=result.caption)
    for number, chunk in [(None, whole), *enumerate(result.chunks)]:
        span = {"chunk": number, "start": chunk.start, "end": chunk.end}
        for rank, tag in enumerate(chunk.tags):
            yield {**span, "kind": "tag", "rank": rank, **tag.model_dump()}
        if chunk.caption:
            yield {**span, "kind": "caption", "rank": 0, "probability": None, **chunk.caption.model_dump()}


def _embeddings(result: Result, found: Embeddings) -> Iterator[Row]:
    model = result.models["embeddings"].digest
    for slot, time, vector in zip(found.slots, found.times, found.vectors, strict=True):
        yield {"frame": slot, "time": time, "model": model, "vector": vector}


def camera_of(source: str) -> str | None:
    """The camera that a source's path names: `.../camera=NAME/...`."""
    found = CAMERA.search(source)
    return unquote(found[1]) if found else None


def recorded_at(source: str) -> datetime | None:
    """The moment, UTC, that a source's last part names: 20261121T140500Z, with or without a fraction of a second."""
    found = RECORDED.search(source.rstrip("/").rpartition("/")[2])
    if found is None:
        return None
    try:
        return datetime.strptime(found[1] + (found[2] or ".0"), "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def _runs(result: Result) -> Iterator[Row]:
    media, timing, segments = result.media, list(result.timing.values()), result.transcript.segments
    yield {
        "source": result.source,
        "camera": camera_of(result.source),
        "recorded": recorded_at(result.source),
        "created": result.created,
        "schema_version": result.schema_version,
        "duration_s": media.duration_s,
        "bytes": media.bytes,
        "container": media.container,
        "width": media.video.width if media.video else None,
        "height": media.video.height if media.video else None,
        "fps": float(media.video.fps) if media.video else None,
        "damaged": media.damaged,
        "language": result.transcript.language,
        "segments": len(segments),
        "words": sum(len(segment.words or []) for segment in segments),
        "transcript_gaps": len(result.transcript.gaps),
        "transcript_gaps_s": result.transcript.gaps_s,
        "transcript_dropped": result.transcript.dropped,
        "clips": len(result.clips),
        "frames_sampled": result.detections.frames_sampled,
        "boxes": sum(len(frame.boxes) for frame in result.detections.frames),
        "classes": sorted(result.detections.classes.items()),
        "stages": len(timing),
        "stages_cached": sum(stage.cached for stage in timing),
        "task_runs": sum(stage.runs for stage in timing),
        "wall_s": sum(stage.wall_s for stage in timing),
        "cpu_s": sum(stage.cpu_s for stage in timing),
        "gpu_s": sum(stage.gpu_s for stage in timing),
        "queue_s": sum(stage.queue_s for stage in timing),
        "bytes_in": sum(stage.bytes_in for stage in timing),
        "bytes_out": sum(stage.bytes_out for stage in timing),
        "cost_usd": result.cost.get("total", 0.0),
        "models": sorted((stage, f"{model.name}@{model.digest}") for stage, model in result.models.items()),
        "demonstration": result.is_demonstration,
    }


_ROWS: Final[Mapping[str, Callable[[Result], Iterable[Row]]]] = {
    "transcripts": _transcripts,
    "words": _words,
    "detections": _detections,
    "scenes": _scenes,
    "tags": _tags,
    "runs": _runs,
}
