"""Windows and ledgers of cameras in a store: written by ingest, read by whoever analyses, reports or keeps house.

A window is an object with its record as metadata; a row of a ledger (gaps, events, retention) is a small JSON object of
its own, under a name made of what it says, so that writing it twice leaves one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.core.live.gaps import Gap
from tasks.core.live.names import KEY, LEDGER, WindowRecord, from_metadata
from tasks.store import Store


def put_window(store: Store, record: WindowRecord, media: Path) -> None:
    """Stores a window with its record; the file stays where it is."""
    with store.workspace() as work:
        copy = work / "window"
        try:
            os.link(media, copy)
        except OSError:  # another file system
            shutil.copyfile(media, copy)
        store.put(record.key, copy, metadata=record.model_dump(mode="json"))


def put_row(store: Store, path: str, content: bytes) -> None:
    """Stores a ledger's row."""
    store.write(path, content)


def read_window(store: Store, path: str) -> WindowRecord | None:
    """The record of the window at a path; None where it is no window of ours."""
    found = store.metadata(path) if KEY.fullmatch(path) else None
    return from_metadata(path, found) if found else None


def list_windows(
    store: Store, camera: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[WindowRecord]:
    """Windows of a camera that begin in [since, until), in order; one request each in a bucket."""
    for path in store.list(f"camera={camera}"):
        found = KEY.fullmatch(path)
        if found and _within(datetime.strptime(f"{found['start']}+0000", "%Y%m%dT%H%M%S.%fZ%z"), since, until):
            record = read_window(store, path)
            if record:
                yield record


def list_rows(
    store: Store, kind: str, camera: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a ledger (gaps, events, retention) that begin in [since, until), in order."""
    for path in store.list(f"{LEDGER}/{kind}/camera={camera}"):
        found = store.read(path)
        if found is None:
            continue
        row = json.loads(found[0])
        if _within(datetime.fromisoformat(row["start"]), since, until):
            yield row


def rows_over(store: Store, kind: str, camera: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """Rows of a ledger that reach into [since, until), in order; one without an end lasts.

    Rows of one cause or kind do not overlap, so that of those which begin before, the last of each counts.
    """
    within: list[str] = []
    before: dict[str, str] = {}
    for path in store.list(f"{LEDGER}/{kind}/camera={camera}"):
        stamp, _, name = path.rpartition("/")[2].removesuffix(".json").partition("-")
        try:
            begins = datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%S.%fZ%z")
        except ValueError:
            continue
        if begins < since:
            before[name] = path
        elif begins < until:
            within.append(path)
    for path in sorted([*before.values(), *within]):
        found = store.read(path)
        row = json.loads(found[0]) if found else None
        if row and (row["end"] is None or datetime.fromisoformat(row["end"]) > since):
            yield row


def list_gaps(store: Store, camera: str, since: datetime | None = None, until: datetime | None = None) -> Iterator[Gap]:
    """Every stretch of a camera's time without a window, and why."""
    return (Gap.model_validate(row) for row in list_rows(store, "gaps", camera, since, until))


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)
