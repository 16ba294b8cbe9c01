"""What a watcher tells of each object: to its command line, and as a Prefect event to whoever listens."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from prefect.events import emit_event

from tasks.core.publish.tables import camera_of
from tasks.core.schema import AnalyzeReport
from tasks.core.source_names import short_name


class WatchReport(AnalyzeReport):
    """The outcome of one object; a line of `watch --json`. Times are RFC 3339 with milliseconds, UTC."""

    put: str
    """When the object was written."""
    received: str
    """When this watcher learnt of it."""
    started: str | None
    committed: str | None


def stamp(moment: datetime) -> str:
    """RFC 3339, milliseconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def emit(report: WatchReport) -> None:
    """A Prefect event about the object. It informs: nothing here depends on it, and it may be lost."""
    digest = hashlib.sha256(report.source.encode(errors="surrogateescape")).hexdigest()[:32]
    resource = {
        "prefect.resource.id": f"reelflow.object.{digest}",
        "prefect.resource.name": short_name(report.source),
        "reelflow.source": report.source,
    }
    if camera := camera_of(report.source):
        resource["reelflow.camera"] = camera
    emit_event(f"reelflow.object.{report.status}", resource, payload=report.model_dump(mode="json"))
