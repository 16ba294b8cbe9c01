"""Stores for the explorer to show: results made by hand of real media, with their views and tables."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn

from flows.explorer.api import Find
from flows.explorer.guard import Guard
from tasks.alerts import alert_path
from tasks.core.alerts.evaluate import Alert
from tasks.core.publish.storyboard import storyboard
from tasks.core.publish.tables import tables, write_table
from tasks.core.schema import Clip, Result
from tasks.core.tracking import rows
from tasks.core.tracking.records import Sight, Visit
from tasks.records.index import Searcher
from tasks.records.results import VIEWS_MARKER, result_path, table_path
from tasks.store import Store
from tests.core.publish import results

BLUE, GREEN, RED = (255, 0, 0), (0, 255, 0), (0, 0, 255)
"""BGR, as frames are."""


def frames(duration_s: float) -> Iterator[tuple[float, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """One a second: blue, green, red, blue ..."""
    for second in range(int(duration_s)):
        yield float(second), np.full((108, 192, 3), (BLUE, GREEN, RED)[second % 3], np.uint8)


def add_media(store: Store, file: Path, source: str | None = None, *, board: bool = True, **changes: Any) -> Result:
    """Commits a result of the file, as tests/core/publish/results.py describes media, with tables and views."""
    content = file.read_bytes()
    media_id = hashlib.sha256(content).hexdigest()[:32]
    facts = {
        "media_id": media_id,
        "source": source or str(file),
        "media": results.media(bytes=len(content)),
        "clips": [Clip(start=0.0, end=1.5, uri=store.uri(f"media/{media_id}/clips/{'c' * 32}/clip_0000.mp4"))],
    }
    result = results.result(**{**facts, **changes})
    store.write(result_path(media_id), result.model_dump_json(by_alias=True).encode())
    views = {
        "transcript.srt": b"1\n00:00:00,250 --> 00:00:01,000\nhello there\n",
        "report.html": b"<!doctype html><title>report</title><script>document.title = 'ran'</script>",
    }
    if board:
        picture, track = storyboard(frames(4.0), 4.0)
        views |= {"storyboard.jpg": picture, "storyboard.vtt": track.encode()}
    views = {f"media/{media_id}/{name}": data for name, data in views.items()}
    for name, table in tables(result, results.embeddings()).items():
        with store.workspace() as work:
            write_table(table, work / "part.parquet", name)
            views[table_path(name, media_id)] = (work / "part.parquet").read_bytes()
    for path, data in views.items():
        store.write(path, data)
    sizes = {path: len(data) for path, data in views.items()}
    store.write(f"media/{media_id}/{VIEWS_MARKER}", json.dumps({"key": result.key, "files": sizes}).encode())
    return result


def add_alert(store: Store, number: int, time: float, **changes: Any) -> Alert:
    """Stores an alert of the camera `gate` as `alerts run` does; its visit began 4 s before."""
    facts: dict[str, Any] = {
        "id": f"{number:032x}",
        "rule": "somebody at the gate",
        "rule_digest": "d",
        "camera": "gate",
        "visit": f"{number:016x}",
        "kind": "visit",
        "start": time - 4,
        "time": time,
        "classes": ("person",),
        "why": "person in zone",
        "window": "w",
        "source": "s3://bucket/camera=gate/w.mp4",
    }
    alert = Alert(**facts | changes)
    store.write(alert_path(alert), alert.model_dump_json().encode())
    return alert


def add_visit(store: Store, number: int, start: float, **changes: Any) -> Visit:
    """Stores a visit of the camera `gate`, 65 s long, as `alerts run` does."""
    place = (0.5, 0.0, 0.75, 0.9)
    seen = {"time": start, "place": place, "class": "person", "confidence": 0.5, "media_id": "0" * 32}
    best = Sight.model_validate({**seen, "media_time": 1.0} | changes.pop("best", {}))
    facts = {"visit": f"{number:016x}", "camera": "gate", "class": "person", "start": start, "end": start + 65}
    more = {"ended": True, "frames": 9, "path": [], "still_s": 0.0, "best": best}
    visit = Visit.model_validate({**facts, **more, **changes})
    day = f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}"
    store.write(
        f"tables/visits/camera={quote(visit.camera, safe='')}/day={day}/{visit.visit}.parquet", rows.visit(visit)
    )
    return visit


def finder(store: Store) -> Find:
    """The search over the tables of a store."""
    return Searcher(store, indexed=False).search


@contextmanager
def served(app: Guard) -> Iterator[str]:
    """The application behind uvicorn on a free port of loopback; gives its address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
