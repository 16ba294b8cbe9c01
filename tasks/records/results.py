"""The committed result of a media, its views, and the quarantine: what the store says without running anything."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from pydantic import ValidationError

from tasks.core.errors import (
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    StoreConflict,
    UnsupportedSource,
)
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.records import json_bytes
from tasks.core.schema import SCHEMA_VERSION, MediaRef, ModelInfo, Quarantined, Result
from tasks.core.source_names import hide_secrets
from tasks.records import artifacts
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


NO_SOURCE = (SourceNotFound, UnsupportedSource, SourceChanged)
"""What says that there is no such source (a typing error, a folder, a glob, a refused address), or none at rest yet:
nobody has to be told of it later, so no record is kept."""


def result_key(media_id: str, options: AnalyzeOptions, models: dict[str, ModelInfo]) -> str:
    """Equal keys mean equal results."""
    return artifacts.content_key(SCHEMA_VERSION, PIPELINE_VERSION, media_id, options, models)


def result_path(media_id: str) -> str:
    return f"media/{media_id}/result.json"


def table_path(name: str, media_id: str) -> str:
    return f"tables/{name}/media_id={media_id}/part.parquet"


def read_result(store: Store, media_id: str) -> tuple[Result, str] | None:
    """The committed result and its tag; None where there is none that can be read."""
    found = store.read(result_path(media_id))
    result = _parse(found[0]) if found else None
    return (result, found[1]) if found and result else None


def commit_result(store: Store, result: Result) -> Result:
    """Makes this the result of its media, unless an equal one is there: then that one stays and is returned."""
    text = json_bytes(result, indent=1)
    for _ in range(10):
        current = store.read(result_path(result.media_id))
        stands = _parse(current[0]) if current else None
        if stands and stands.key == result.key:
            return stands
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
    try:
        marker = json.loads(found[0])
        return marker["key"] == result.key and all(store.size(path) == size for path, size in marker["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def quarantine(store: Store, source: str, media: MediaRef | None, error: ReelflowError) -> Quarantined:
    """Sets one source aside with the reason; under its content's id or, where that could not be read, its name's.

    Nothing is written for NO_SOURCE; a record by name goes when the name has become readable.
    """
    record = Quarantined(
        media_id=_record_id(source, media, error),
        source=display_source(source),
        code=error.code,
        message=hide_secrets(error.message),
        detail=hide_secrets(error.detail[:4000]),
        created=datetime.now(UTC),
    )
    if record.media_id:
        store.write(f"quarantine/{record.media_id}.json", json_bytes(record, indent=1))
    if media and record.media_id == media.media_id:
        forget_name(store, source)
    return record


def forget_name(store: Store, source: str) -> None:
    """Takes away the record of a name that could not be read, now that it can."""
    release(store, _name_id(source))


def release(store: Store, media_id: str) -> None:
    """Takes a media out of quarantine, once it has a result."""
    store.delete(f"quarantine/{media_id}.json")


def _record_id(source: str, media: MediaRef | None, error: ReelflowError) -> str | None:
    if isinstance(error, NO_SOURCE):
        return None
    return _name_id(source) if media is None or isinstance(error, PermissionDenied) else media.media_id


def _name_id(source: str) -> str:
    return hashlib.sha256(display_source(source).encode()).hexdigest()[:32]


def _parse(text: bytes) -> Result | None:
    """None for what is damaged, or was written by a version that knew other fields: it is made again."""
    try:
        return Result.model_validate_json(text)
    except ValidationError:
        return None
