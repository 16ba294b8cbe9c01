"""The rows of a report as tables: CSV for people, Parquet for programs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any, Final, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.activity.period import Period
from tasks.core.activity.rows import (
    Activity,
    AlertRow,
    CameraTotals,
    ClassRow,
    GapRow,
    HealthRow,
    HourRow,
    VisitRow,
    WindowRow,
)
from tasks.core.schema import Record

TABLES: Final[dict[str, type[Record]]] = {
    "windows": WindowRow,
    "visits": VisitRow,
    "alerts": AlertRow,
    "gaps": GapRow,
    "health": HealthRow,
    "hours": HourRow,
    "class_hours": ClassRow,
    "cameras": CameraTotals,
}
"""By the field of Activity that holds the rows."""

_TIMES: Final = frozenset({"start", "end", "time", "tracked_until"})
_MOMENT: Final = pa.timestamp("ms", tz="UTC")
_TYPES: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that spreadsheets would compute."""


def parquet(activity: Activity, name: str) -> bytes:
    """One table as a Parquet file (zstd). Times are UTC, to the millisecond; Raises KeyError for an unknown table."""
    columns = _columns(TABLES[name])
    rows = [{column: _cell(column, row[column]) for column in columns} for row in _dumped(activity, name)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns.items())), file, compression="zstd")
    return file.getvalue()


def csv_text(activity: Activity, name: str) -> bytes:
    """One table as CSV (UTF-8): times as RFC 3339 in UTC, and `local`, the first of them by the place's clock.

    A text that a spreadsheet would take for a formula stands behind an apostrophe. Raises KeyError.
    """
    columns = list(_columns(TABLES[name]))
    first = next((column for column in columns if column in _TIMES), None)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["local", *columns])
    for row in _dumped(activity, name):
        local = _local(activity.period, row[first]) if first and row[first] is not None else ""
        writer.writerow([local, *(_text(_cell(column, row[column])) for column in columns)])
    return file.getvalue().encode("utf-8", "replace")


def _dumped(activity: Activity, name: str) -> list[dict[str, Any]]:
    return [row.model_dump(by_alias=True) for row in getattr(activity, name)]


def _columns(kind: type[Record]) -> dict[str, pa.DataType]:
    """Column names, those of the fields or their aliases, and types."""
    found: dict[str, pa.DataType] = {}
    for name, field in kind.model_fields.items():
        types = [part for part in get_args(field.annotation) if part is not type(None)]
        plain: Any = field.annotation if get_origin(field.annotation) is None else types[0] if types else str
        found[field.alias or name] = _MOMENT if name in _TIMES else _TYPES.get(plain, pa.string())
    return found


def _cell(column: str, value: Any) -> Any:
    if column in _TIMES and value is not None:
        return datetime.fromtimestamp(round(value * 1000) / 1000, UTC)
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return " ".join(value) if isinstance(value, tuple) else value


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _local(period: Period, at: float) -> str:
    return period.local(at).isoformat(timespec="seconds", sep=" ")
