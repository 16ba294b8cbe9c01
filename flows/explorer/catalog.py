"""The media of a store, newest first, as their tables of runs describe them."""

from __future__ import annotations

import heapq
import io
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from flows.explorer.kept import Kept
from tasks.core.publish.player import source_name, source_text
from tasks.records.results import table_path
from tasks.store import Store, Stored

NEWEST: Final = 5000
"""Media that can be listed and filtered without a search: the newest ones of a larger store."""

KEEP_S: Final = 15.0
"""How old the list may be."""

MOST_TABLE_BYTES: Final = 2**20
"""Of one media's row; a larger file is none of ours."""

MOST_CAMERAS: Final = 500
"""Names that are offered to choose from."""

_READERS: Final = 8
_COLUMNS: Final = (
    "source", "camera", "recorded", "created", "duration_s", "width", "language", "segments", "boxes", "classes",
    "demonstration",
)  # fmt: skip
_PATH: Final = re.compile(r"tables/runs/media_id=([0-9a-f]{32})/part\.parquet")

Row = dict[str, Any]


@dataclass(frozen=True)
class Filters:
    """Which media are listed; None asks for all. `since` and `until` are of the recording, else of its analysis."""

    media: str | None = None
    prefix: str | None = None
    camera: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fit(self, row: Row) -> bool:
        moment = row["recorded"] or row["created"]
        return (
            (self.media is None or row["media_id"] == self.media)
            and (self.prefix is None or row["source"].startswith(self.prefix))
            and (self.camera is None or row["camera"] == self.camera)
            and (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
        )


class Catalog:
    """Safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lists: Kept[str, list[Stored]] = Kept(1, KEEP_S)
        self._listed: Kept[tuple[str, float], Row | None] = Kept(NEWEST)
        self._named: Kept[str, Row | None] = Kept(NEWEST, KEEP_S)
        self._cameras: dict[str, None] = {}

    def newest(self, filters: Filters, count: int) -> tuple[list[Row], bool]:
        """The first `count` media that fit, and whether there are more."""
        fitting = filter(filters.fit, self._rows())
        found = list(islice(fitting, count))
        return found, next(fitting, None) is not None

    def rows(self, media_ids: list[str]) -> dict[str, Row]:
        """What is known of these media; those without a table are left out."""
        with ThreadPoolExecutor(_READERS) as pool:
            paths = [table_path("runs", media_id) for media_id in media_ids]
            found = pool.map(lambda path: self._named.get(path, partial(self._read, path)), paths)
            return {row["media_id"]: row for row in found if row}

    def cameras(self) -> list[str]:
        """The cameras that were met so far."""
        return sorted(self._cameras)

    def _rows(self) -> Iterator[Row]:
        files = self._lists.get("runs", self._scan)
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(files), 4 * _READERS):
                yield from filter(None, pool.map(self._row, files[start : start + 4 * _READERS]))

    def _scan(self) -> list[Stored]:
        tables = (
            found
            for found in self._store.scan("tables/runs")
            if _PATH.fullmatch(found.path) and found.bytes <= MOST_TABLE_BYTES
        )
        return heapq.nlargest(NEWEST, tables, key=lambda found: found.modified)

    def _row(self, found: Stored) -> Row | None:
        return self._listed.get((found.path, found.modified), partial(self._read, found.path))

    def _read(self, path: str) -> Row | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = self._store.read(path)
        match = _PATH.fullmatch(path)
        if data is None or match is None:
            return None
        try:
            rows = pq.read_table(io.BytesIO(data[0]), columns=list(_COLUMNS)).to_pylist()
        except (pa.ArrowException, OSError):
            logging.getLogger(__name__).warning("%s is damaged; analyse its media again to mend it", path)
            return None
        if len(rows) != 1:
            return None
        if (camera := rows[0]["camera"]) and len(self._cameras) < MOST_CAMERAS:
            self._cameras[camera] = None
        return {**rows[0], "media_id": match[1], "classes": dict(rows[0]["classes"] or ())}


def card(row: Row) -> dict[str, Any]:
    """A media as the list shows it."""
    classes = sorted(row["classes"].items(), key=lambda item: (-item[1], item[0]))
    return {
        "media_id": row["media_id"],
        **names(row),
        "picture": f"/api/media/{row['media_id']}/picture?t={row['duration_s'] / 2:.2f}",
        "duration": row["duration_s"],
        "kind": "video" if row["width"] else "audio",
        "language": row["language"],
        "segments": row["segments"],
        "boxes": row["boxes"],
        "classes": [name for name, _ in classes[:4]],
        "demonstration": row["demonstration"],
    }


def names(row: Row) -> dict[str, Any]:
    """What a person knows a media by."""
    recorded, created = row["recorded"], row["created"]
    return {
        "name": source_name(row["source"]),
        "source": source_text(row["source"]),
        "camera": row["camera"],
        "recorded": recorded.isoformat() if recorded else None,
        "created": created.isoformat() if created else None,
    }
