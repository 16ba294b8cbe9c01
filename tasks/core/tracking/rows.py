"""The Parquet tables of tracking: `tracks`, a row per object and sampled frame, and `visits`, a row per visit."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.activity.rows import VisitRow
from tasks.core.errors import DamagedArtifact
from tasks.core.schema import Record
from tasks.core.tracking.records import Place, TrackedWindow, Visit

_TIME: Final = pa.timestamp("ms", tz="UTC")
_CAMERA: Final = pa.field("camera", pa.dictionary(pa.int32(), pa.string()), nullable=False)
"""A dictionary is the type that readers give a column which the path names (`camera=...`)."""

TRACKS: Final = pa.schema(
    [
        _CAMERA,
        ("visit", pa.string()),
        ("time", _TIME),
        ("class", pa.string()),
        ("confidence", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
        ("media_id", pa.string()),
        ("media_time", pa.float64()),
    ]
)
"""Boxes are parts of the frame's width and height; `media_time` is seconds into the window `media_id`. `class` is what
the detector said of this frame."""

VISITS: Final = pa.schema(
    [
        _CAMERA,
        ("visit", pa.string()),
        ("class", pa.string()),
        ("start", _TIME),
        ("end", _TIME),
        ("dwell_s", pa.float64()),
        ("ended", pa.bool_()),
        ("frames", pa.int32()),
        ("still_s", pa.float64()),
        ("path", pa.list_(pa.struct([("time", _TIME), ("x", pa.float32()), ("y", pa.float32())]))),
        ("best_media_id", pa.string()),
        ("best_media_time", pa.float64()),
        ("best_box", pa.list_(pa.float32())),
    ]
)
"""`class` is by vote of all frames. `ended` is false while the object may still be there. `best_*` names the window,
the second in it and the box of the largest and surest picture."""

_ABOUT: Final = ["camera", "visit", "class", "start", "end", "dwell_s", "ended", "frames"]
_BEST: Final = ["best_media_id", "best_media_time", "best_box"]


class Best(Record):
    """The largest and surest picture of a visit."""

    media_id: str
    media_time: float
    place: Place


def tracks(tracked: TrackedWindow) -> bytes:
    """The rows that this window's record gave, as a Parquet file."""
    camera = tracked.window.camera
    return _parquet(
        (
            {
                "camera": camera,
                "visit": seen.visit,
                "time": moment(sight.time),
                "class": sight.class_,
                "confidence": sight.confidence,
                **dict(zip(("x1", "y1", "x2", "y2"), sight.place, strict=True)),
                "media_id": sight.media_id,
                "media_time": sight.media_time,
            }
            for seen in tracked.seen
            for sight in seen.sights
        ),
        TRACKS,
    )


def visit(found: Visit) -> bytes:
    """One visit as a Parquet file of one row."""
    row = {
        "camera": found.camera,
        "visit": found.visit,
        "class": found.class_,
        "start": moment(found.start),
        "end": moment(found.end),
        "dwell_s": round(found.dwell_s, 3),
        "ended": found.ended,
        "frames": found.frames,
        "still_s": found.still_s,
        "path": [{"time": moment(point.time), "x": point.x, "y": point.y} for point in found.path],
        "best_media_id": found.best.media_id,
        "best_media_time": found.best.media_time,
        "best_box": list(found.best.place),
    }
    return _parquet([row], VISITS)


def read_visit(data: bytes, name: str) -> VisitRow:
    """The row of a file that `visit` made. Raises DamagedArtifact with the file's name for any other."""
    return _visit_row(_read_row(data, _ABOUT, name), name)


def read_best(data: bytes, name: str) -> tuple[VisitRow, Best]:
    """As `read_visit`, and where its best picture is. Raises DamagedArtifact."""
    row = _read_row(data, [*_ABOUT, *_BEST], name)
    media_id, time, place = (row.pop(column) for column in _BEST)
    try:
        best = Best(media_id=media_id, media_time=time, place=place)
    except ValueError as error:
        raise _no_visit(name, error) from error
    return _visit_row(row, name), best


def _visit_row(row: dict[str, Any], name: str) -> VisitRow:
    try:
        times = {end: row[end].timestamp() for end in ("start", "end")}
        lasts = not row.pop("ended")
        return VisitRow.model_validate(row | times | {"lasts": lasts})
    except (ValueError, AttributeError) as error:
        raise _no_visit(name, error) from error


def _read_row(data: bytes, columns: list[str], name: str) -> dict[str, Any]:
    try:
        [row] = pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
        return dict(row)
    except (pa.ArrowException, OSError, OverflowError, KeyError, ValueError) as error:
        raise _no_visit(name, error) from error


def _no_visit(name: str, error: Exception) -> DamagedArtifact:
    return DamagedArtifact(f"{name} holds no visit; track its windows again", detail=str(error))


def moment(time: float) -> datetime:
    """Unix seconds as UTC, to the millisecond."""
    return datetime.fromtimestamp(round(time * 1000) / 1000, UTC)


def _parquet(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> bytes:
    table = pa.Table.from_pylist(list(rows), schema=schema)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
