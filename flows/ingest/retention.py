"""Old windows go, and a row says so. What is not certainly one of ours stays: no name alone lets an object go."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from tasks.core.live.names import KEY, WindowRecord, from_metadata, rfc3339, row_path
from tasks.records.recordings import put_row, read_window
from tasks.store import Store

EVERY_S = 3600.0


class Kept(BaseModel):
    """What one pass over a camera's windows did."""

    camera: str
    start: str
    """When it was, RFC 3339."""
    older_than: str
    deleted: int = 0
    deleted_bytes: int = 0
    unknown: int = 0
    """Old objects among the windows that say nothing of themselves, or something else than their name: they stay."""
    oldest: str | None = None
    """The oldest window that is there now."""


def keep_house(store: Store, camera: str, keep_s: float, now: float) -> Kept:
    """Removes the windows of a camera that began before now - keep_s, oldest first, and leaves a row about it.

    An object goes only if its name is a window's and its own metadata says the same camera, sequence and start.
    Raises what the store raises; whatever it had removed by then is removed.
    """
    limit = now - keep_s
    found = Kept(camera=camera, start=rfc3339(now), older_than=rfc3339(limit))
    for stored in store.scan(f"camera={camera}"):
        key = KEY.fullmatch(stored.path)
        beside = KEY.fullmatch(stored.path.removesuffix(".json")) if stored.path.endswith(".json") else None
        if key is None and beside is None:
            found.unknown += stored.modified < limit
            continue
        if _begins(key or beside) >= limit:
            found.oldest = rfc3339(_begins(key or beside))
            break
        if key is None:
            if store.size(stored.path.removesuffix(".json")) is None and _is_record(store, stored.path):
                store.delete(stored.path)
            continue
        record = read_window(store, stored.path)
        if record is None or not _agrees(record, key):
            found.unknown += 1
            continue
        store.delete(stored.path)
        found.deleted += 1
        found.deleted_bytes += stored.bytes
        if store.size(f"{stored.path}.json") is not None and _is_record(store, f"{stored.path}.json"):
            store.delete(f"{stored.path}.json")
    path = row_path("retention", camera, now, "pass")
    put_row(store, path, found.model_dump_json().encode())
    return found


def _begins(key: Any) -> float:
    return datetime.strptime(key["start"], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()


def _agrees(record: WindowRecord, key: Any) -> bool:
    same = record.camera == key["camera"] and record.sequence == int(key["sequence"])
    return same and abs(record.begins - _begins(key)) < 0.001


def _is_record(store: Store, path: str) -> bool:
    content = store.read(path)
    try:
        values = json.loads(content[0]) if content else None
    except ValueError:
        return False
    return isinstance(values, dict) and from_metadata(path.removesuffix(".json"), values) is not None
