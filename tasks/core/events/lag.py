"""How late each object's result was, stage by stage: a row of the table `lags`, and what a camera's rows come to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.publish.tables import camera_of, recorded_at
from tasks.core.schema import Record, Result

TABLE: Final = "lags"

RECENT: Final = 200
"""Objects of a camera that its figures rest on."""

STAGES: Final = ("capture_s", "upload_s", "queue_s", "analysis_s", "commit_s")


class Lag(Record):
    """When one object went through which stage (UTC), and the seconds between.

    capture: the window's own length. upload: from its end until it was in the bucket. queue: until its analysis began.
    analysis: until everything was found. commit: until result and tables were written. The first two need a source
    whose name says when it was recorded.
    """

    media_id: str
    result_key: str
    source: str
    camera: str | None
    origin: str
    """Who told of it: aws:s3, eventbridge, minio:s3 ... or sweep."""
    attempt: int
    sample_fps: float
    level: int
    """Of shedding: 0 as asked, each more half as many frames."""
    recorded: datetime | None
    put: datetime
    received: datetime
    started: datetime
    analysed: datetime
    committed: datetime
    capture_s: float | None
    upload_s: float | None
    queue_s: float
    analysis_s: float
    commit_s: float
    total_s: float
    """From put to committed."""


_SCHEMA: Final = pa.schema(
    [
        pa.field("media_id", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("result_key", pa.string(), nullable=False),
        *((name, pa.string()) for name in ("source", "camera", "origin")),
        ("attempt", pa.int32()),
        ("sample_fps", pa.float64()),
        ("level", pa.int32()),
        *(
            (name, pa.timestamp("us", tz="UTC"))
            for name in ("recorded", "put", "received", "started", "analysed", "committed")
        ),
        *((name, pa.float64()) for name in (*STAGES, "total_s")),
    ]
)


def lag_of(
    result: Result,
    *,
    source: str,
    put: datetime,
    received: datetime,
    started: datetime,
    committed: datetime,
    origin: str,
    attempt: int,
    level: int,
) -> Lag:
    """The lag of a result that was made just now. Clocks of store and host may differ: nothing is less than 0."""
    recorded, length_s = recorded_at(source), result.media.duration_s
    analysed = min(max(result.created.astimezone(UTC), started), committed)
    return Lag(
        media_id=result.media_id,
        result_key=result.key,
        source=source,
        camera=camera_of(source),
        origin=origin,
        attempt=attempt,
        sample_fps=float(result.options.get("frames", {}).get("fps", 0.0)),
        level=level,
        recorded=recorded,
        put=put,
        received=received,
        started=started,
        analysed=analysed,
        committed=committed,
        capture_s=length_s if recorded else None,
        upload_s=_seconds(recorded + timedelta(seconds=length_s), put) if recorded else None,
        queue_s=_seconds(put, started),
        analysis_s=_seconds(started, analysed),
        commit_s=_seconds(analysed, committed),
        total_s=_seconds(put, committed),
    )


def write_lag(lag: Lag, path: Path) -> None:
    """Writes the row as a Parquet file."""
    pq.write_table(pa.Table.from_pylist([lag.model_dump()], schema=_SCHEMA), path)


class Cameras:
    """The latest lags by camera; objects without one are under "-"."""

    def __init__(self) -> None:
        self._lags: dict[str, deque[Lag]] = {}
        self._counts: dict[str, int] = {}

    def add(self, lag: Lag) -> None:
        name = lag.camera or "-"
        self._lags.setdefault(name, deque(maxlen=RECENT)).append(lag)
        self._counts[name] = self._counts.get(name, 0) + 1

    def figures(self) -> dict[str, dict[str, Any]]:
        """Of each camera: objects, when the last one was committed, median seconds of each stage, total and its p95."""
        return {name: {"objects": self._counts[name], **_figures(lags)} for name, lags in sorted(self._lags.items())}


def _figures(lags: Iterable[Lag]) -> dict[str, Any]:
    rows = list(lags)
    totals = sorted(row.total_s for row in rows)
    shown: dict[str, Any] = {"last": max(row.committed for row in rows).isoformat(timespec="milliseconds")}
    for stage in STAGES:
        known = [value for row in rows if (value := getattr(row, stage)) is not None]
        shown[stage] = round(median(known), 3) if known else None
    p95 = totals[min(len(totals) - 1, int(0.95 * len(totals)))]
    return shown | {"total_s": round(median(totals), 3), "total_p95_s": round(p95, 3)}


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
