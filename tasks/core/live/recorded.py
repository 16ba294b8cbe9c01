"""When a file was recorded: what its name says, else what it says itself, else when it was last written."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av

from tasks.core.container import open_media


def recorded(path: Path) -> dict[str, Any]:
    """For a Task: the media's own time counts. The same file gives the same windows under the same names.

    Raises what open_media raises.
    """
    from tasks.core.publish.tables import recorded_at

    state = path.stat()
    version = f"{path.name}:{state.st_size}:{state.st_mtime_ns}"
    known: dict[str, Any] = {
        "keep_time": True,
        "run": f"file-{hashlib.sha256(version.encode(errors='surrogateescape')).hexdigest()[:16]}",
    }
    named = recorded_at(path.name)
    if named is not None:
        return known | {"started": named.timestamp(), "start_uncertainty_s": 1.0}
    with open_media(path) as container:
        stated = container.metadata.get("creation_time", "")
        length_s = (container.duration or 0) / av.time_base
    try:
        at = datetime.fromisoformat(stated)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if at.year > 1970:
            return known | {"started": at.timestamp(), "start_uncertainty_s": 1.0}
    except ValueError:
        pass
    return known | {"started": max(0.0, state.st_mtime - length_s), "start_uncertainty_s": 60.0}
