"""What became of a source, by its name: lets a backfill skip an object without reading it.

One small object per source, so writers never contend. It binds a name and a version (ETag, or size and time) to
content; whether that content is analysed, only its committed result says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tasks.core.errors import LimitExceeded, OptionError
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.records import json_bytes
from tasks.core.schema import AnalyzeReport, ModelInfo, Record
from tasks.records import artifacts
from tasks.records.results import PIPELINE_VERSION, VIEWS_MARKER, result_key, result_path
from tasks.store import Store


class SourceRecord(Record):
    """The last run of a source that came to an end."""

    source: str
    version: str
    """The source's version that was analysed; see Fetched.version."""
    media_id: str
    request: str
    """Digest of what was asked for; a source is set aside for one request only. See request_key."""
    error: dict[str, str] | None = None
    """Code and message, where the source was set aside."""


def request_key(options: AnalyzeOptions, code: str = "") -> str:
    """Equal keys ask for the same, and with a reason code would fail for that reason in the same way.

    Limits and batch sizes change no result, so they count only where one of them was the reason.
    """
    bounds = options.model_dump(mode="json") if code in (LimitExceeded.code, OptionError.code) else None
    return artifacts.content_key(PIPELINE_VERSION, options, bounds)


def remember(store: Store, source: str, version: str, options: AnalyzeOptions, report: AnalyzeReport) -> None:
    """Notes the outcome of a run; without a version there is nothing to recognise the source by."""
    if not version or report.media_id is None:
        return
    record = SourceRecord(
        source=display_source(source),
        version=version,
        media_id=report.media_id,
        request=request_key(options, (report.error or {}).get("code", "")),
        error=report.error,
    )
    store.write(_path(source), json_bytes(record))


def recall(
    store: Store,
    source: str,
    version: str,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    *,
    retry_quarantined: bool = False,
    or_options: Sequence[AnalyzeOptions] = (),
) -> AnalyzeReport | None:
    """The report of this version of the source, if it was analysed or set aside already; two small reads.

    What was done with one of `or_options` counts as well.
    """
    asked = (options, *or_options)
    found = store.read(_path(source))
    if found is None:
        return None
    try:
        record = SourceRecord.model_validate_json(found[0])
    except ValidationError:
        return None
    if record.version != version:
        return None
    if record.error is not None:
        code = record.error.get("code", "")
        if retry_quarantined or record.request not in {request_key(each, code) for each in asked}:
            return None
        return _report(source, record, "quarantined", None)
    marker = store.read(f"media/{record.media_id}/{VIEWS_MARKER}")
    if marker is None or _key_in(marker[0]) not in {result_key(record.media_id, each, models) for each in asked}:
        return None
    return _report(source, record, "cached", store.uri(result_path(record.media_id)))


def recorded_outcome(store: Store, source: str, version: str) -> SourceRecord | None:
    """What became of this version of the source, whatever was asked for; None where no run of it has ended."""
    found = store.read(_path(source))
    if found is None:
        return None
    try:
        record = SourceRecord.model_validate_json(found[0])
    except ValidationError:
        return None
    return record if record.version == version else None


def _report(source: str, record: SourceRecord, status: str, result: str | None) -> AnalyzeReport:
    return AnalyzeReport(
        source=display_source(source),
        media_id=record.media_id,
        status=status,
        result=result,
        seconds=0.0,
        cached=status == "cached",
        error=record.error,
    )


def _key_in(marker: bytes) -> Any:
    try:
        return json.loads(marker)["key"]
    except (ValueError, KeyError, TypeError):
        return None


def _path(source: str) -> str:
    return f"sources/{hashlib.sha256(source.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
