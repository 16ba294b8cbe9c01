"""The committed result of a media, its views, and the quarantine: what the store says without running anything."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from tasks import artifacts
from tasks.core.errors import ReelflowError, StoreConflict
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import SCHEMA_VERSION, MediaRef, ModelInfo, Quarantined, Result
from tasks.store import Store

PIPELINE_VERSION = 3
"""Raised when the same options give other results than before."""

VIEWS = {
    "srt": "transcript.srt",
    "vtt": "transcript.vtt",
    "contact_sheet": "contact_sheet.jpg",
    "storyboard": "storyboard.jpg",
    "storyboard_vtt": "storyboard.vtt",
    "report": "report.html",
}
"""Files beside result.json that are derived from it; a media without video has no storyboard."""

VIEWS_MARKER = "views.json"
"""Names the result that the views beside it were made from, and their sizes; written after them."""


def result_key(media_id: str, options: AnalyzeOptions, models: dict[str, ModelInfo]) -> str:
    """Equal keys mean equal results."""
    return artifacts.content_key(SCHEMA_VERSION, PIPELINE_VERSION, media_id, options, models)


def result_path(media_id: str) -> str:
    return f"media/{media_id}/result.json"


def table_path(name: str, media_id: str) -> str:
    return f"tables/{name}/media_id={media_id}/part.parquet"


def read_result(store: Store, media_id: str) -> tuple[Result, str] | None:
    """The committed result and its tag."""
    found = store.read(result_path(media_id))
    return (Result.model_validate_json(found[0]), found[1]) if found else None


def commit_result(store: Store, result: Result) -> Result:
    """Makes this the result of its media, unless an equal one is there: then that one stays and is returned."""
    text = result.model_dump_json(by_alias=True, indent=1).encode()
    for _ in range(10):
        current = read_result(store, result.media_id)
        if current and current[0].key == result.key:
            return current[0]
        try:
            store.commit(result_path(result.media_id), text, current[1] if current else None)
        except StoreConflict:
            continue
        return result
    raise StoreConflict(f"Ten other runs committed a result for {result.source} meanwhile; run it again.")


def whole_result(store: Store, media_id: str, key: str) -> Result | None:
    """The committed result with this key, if each of its artifacts is in the store."""
    found = read_result(store, media_id)
    if found is None or found[0].key != key:
        return None
    folders = [uri for name, uri in found[0].artifacts.items() if name not in VIEWS]
    return found[0] if all(artifacts.intact(store, uri) for uri in folders) else None


def mark_views(store: Store, result: Result, sizes: dict[str, int]) -> None:
    """Records that the views at these paths, of these sizes in bytes, were made from this result."""
    store.write(f"media/{result.media_id}/{VIEWS_MARKER}", json.dumps({"key": result.key, "files": sizes}).encode())


def views_are_fresh(store: Store, result: Result) -> bool:
    """Were all views made from this result, and are they still there?"""
    found = store.read(f"media/{result.media_id}/{VIEWS_MARKER}")
    if found is None:
        return False
    marker = json.loads(found[0])
    return marker["key"] == result.key and all(store.size(path) == size for path, size in marker["files"].items())


def quarantine(store: Store, source: str, media: MediaRef | None, error: ReelflowError) -> Quarantined:
    """Sets one source aside with the reason; under its content's id or, when it has none, its name's."""
    shown = display_source(source)
    media_id = media.media_id if media else hashlib.sha256(shown.encode()).hexdigest()[:32]
    record = Quarantined(
        media_id=media_id,
        source=shown,
        code=error.code,
        message=error.message,
        detail=error.detail[:4000],
        created=datetime.now(UTC),
    )
    store.write(f"quarantine/{media_id}.json", record.model_dump_json(indent=1).encode())
    return record


def release(store: Store, media_id: str) -> None:
    """Takes a media out of quarantine, once it has a result."""
    store.delete(f"quarantine/{media_id}.json")
