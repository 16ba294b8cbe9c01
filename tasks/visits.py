"""Visits of cameras: committed windows are tracked in order, each from the stored state of the one before it.

`tracking/camera=NAME/DAY/LABEL.json` is written once per window by a conditional write and never changed: whoever is
killed, restarted or runs beside another goes on from what is there. The tables `tracks` and `visits` are views of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Final
from urllib.parse import quote, unquote

from pydantic import ValidationError

from tasks.core.activity.rows import VisitRow
from tasks.core.errors import DamagedArtifact, StoreConflict
from tasks.core.listing import Listed, Selection, list_media
from tasks.core.records import json_bytes
from tasks.core.schema import Record
from tasks.core.tracking import rows
from tasks.core.tracking.records import Sight, State, TrackedWindow, Window, WindowName, window_name
from tasks.core.tracking.track import follow
from tasks.records.results import read_result
from tasks.records.sources import recorded_outcome
from tasks.settings import settings
from tasks.store import Store, own_objects

PATIENCE_S: Final = 60.0
"""A number that is missing among a camera's windows is waited for until the newest one begins so much later."""
REACH_S: Final = 30.0
"""What was seen of an object before it had an id stands in a window that begins at most so much later."""
MOST_MISSING: Final = 1000
"""A larger step of the numbers is a new count, not windows that are missing."""


class Head(Record):
    """Where a camera's tracking stands: a hint, behind the truth after a crash."""

    path: str
    label: str


class Waiting(Record):
    """Why tracking of a camera stops before its newest window."""

    camera: str
    label: str
    why: str


def cameras_under(prefix: str, store: Store) -> dict[str, list[tuple[WindowName, Listed]]]:
    """The windows under a prefix by camera, each in order of time.

    Raises what list_media raises for a prefix that cannot be listed.
    """
    found: dict[str, list[tuple[WindowName, Listed]]] = {}
    for listed in list_media(prefix, Selection(), settings().s3, leave_out=own_objects(store)):
        name = window_name(listed.source)
        if name is not None and not listed.source.endswith(".json"):
            found.setdefault(name.camera, []).append((name, listed))
    return {camera: sorted(windows, key=lambda each: each[0].label) for camera, windows in sorted(found.items())}


def track_camera(
    store: Store, camera: str, windows: Iterable[tuple[WindowName, Listed]]
) -> Iterator[TrackedWindow | Waiting]:
    """Tracks the windows that are not tracked yet, in order; ends with the reason where it has to wait.

    A window that is listed and has no result yet is waited for, so that live and backfill see the same. One that comes
    after later ones were tracked is left out, and said.
    """
    head, tracked, previous = _load_head(store, camera)
    windows = [each for each in windows if head is None or each[0].label >= head.label]
    missing = _missing(windows)
    for name, listed in windows:
        if head and name.label == head.label:
            continue
        if missing and name.label >= missing.label:
            yield missing
            return
        window = _window(store, name, listed)
        if window is None:
            yield Waiting(camera=camera, label=name.label, why=f"{listed.source} is not analysed yet")
            return
        tracked, previous = _commit(store, window, tracked.state if tracked else None, previous)
        yield tracked


def _missing(windows: Sequence[tuple[WindowName, Listed]]) -> Waiting | None:
    """The window before which a number is missing that may still come."""
    for (before, _), (name, listed) in pairwise(windows):
        if before.sequence is None or name.sequence is None:
            continue
        young = windows[-1][0].start - before.start < PATIENCE_S
        if young and 1 < name.sequence - before.sequence < MOST_MISSING:
            why = f"window {before.sequence + 1}, which comes before {listed.source}, is not there yet"
            return Waiting(camera=name.camera, label=name.label, why=why)
    return None


def late_windows(store: Store, camera: str, windows: Iterable[tuple[WindowName, Listed]]) -> list[str]:
    """Sources that came after later windows had been tracked: they are analysed, and in no visit."""
    head, _, _ = _load_head(store, camera)
    there = {_label(path) for path in store.list(f"{_folder(camera)}/windows")}
    return [listed.source for name, listed in windows if head and name.label < head.label and name.label not in there]


def tracked_windows(store: Store, camera: str, since: str = "") -> Iterator[TrackedWindow]:
    """The stored records of a camera, in order, from after the label `since`."""
    folders = [f"{_folder(camera)}/windows"]
    head = _load_head(store, camera)[0]
    if since and head:
        first, last = (datetime.strptime(label[:8], "%Y%m%d").date() for label in (since, head.label))
        folders = [f"{folders[0]}/{first + timedelta(days=n)}" for n in range((last - first).days + 1)]
    for path in chain.from_iterable(map(store.list, folders)):
        if _label(path) > since and (found := _read(store, path)):
            yield found[0]


def tracked_cameras(store: Store) -> list[str]:
    """Cameras that have records."""
    heads = (path.split("/") for path in store.list("tracking") if path.endswith("/head.json"))
    return sorted(unquote(parts[1].removeprefix("camera=")) for parts in heads)


def tracked_path(camera: str, label: str) -> str:
    day = f"{label[:4]}-{label[4:6]}-{label[6:8]}"
    return f"{_folder(camera)}/windows/{day}/{label}.json"


def tracked_until(store: Store, camera: str) -> float | None:
    """Until when the camera's windows are tracked, Unix time; None where none is."""
    tracked = _load_head(store, camera)[1]
    return tracked.window.start + tracked.window.duration_s if tracked else None


def visits_between(store: Store, camera: str, begin: float, end: float) -> Iterator[VisitRow]:
    """The visits of a camera of which a part lies in [begin, end), whole, in order of their first days.

    Those that began on an earlier day stand in the record of the last window that begins before `begin`.
    Raises DamagedArtifact for a row that cannot be read.
    """
    first, last = (rows.moment(at).date() for at in (begin, end))
    paths = {
        _visit_path(camera, visit, start)
        for label in _last_before(store, camera, begin)
        for visit, start in _known_in(store, tracked_path(camera, label))
    }
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    for day in days:
        paths.update(store.list(f"tables/visits/camera={quote(camera, safe='')}/day={day}"))
    for path in sorted(paths):
        found = store.read(path)
        row = rows.read_visit(found[0], path) if found else None
        if row and row.start < end and (row.end > begin or row.start >= begin):
            yield row


def sights_between(store: Store, camera: str, begin: float, end: float) -> Iterator[tuple[str, Sight]]:
    """What was seen of visits in [begin, end): (visit, sight), from the records of the windows of that time."""
    first, last = (rows.moment(at).date() for at in (begin, end))
    labels = _last_before(store, camera, begin)
    for n in range((last - first).days + 1):
        day = map(_label, store.list(f"{_folder(camera)}/windows/{first + timedelta(days=n)}"))
        labels += [label for label in day if f"{rows.moment(begin):%Y%m%dT%H%M%S}" <= label]
    stop = f"{rows.moment(end + REACH_S):%Y%m%dT%H%M%S}"
    for label in sorted(set(labels)):
        found = _read(store, tracked_path(camera, label)) if label <= stop else None
        for seen in found[0].seen if found else ():
            yield from ((seen.visit, sight) for sight in seen.sights if begin <= sight.time < end)


def _last_before(store: Store, camera: str, at: float) -> list[str]:
    """Label of the last tracked window that begins before a moment. Beyond a day all that was there has gone."""
    stamp = f"{rows.moment(at):%Y%m%dT%H%M%S}"
    for back in (0, 1):
        day = rows.moment(at).date() - timedelta(days=back)
        labels = [_label(path) for path in store.list(f"{_folder(camera)}/windows/{day}")]
        if before := [label for label in labels if label < stamp]:
            return [max(before)]
    return []


def _known_in(store: Store, path: str) -> Iterator[tuple[str, float]]:
    """Visits that a window's record knows of, and when each began."""
    found = _read(store, path)
    for visit in found[0].visits if found else ():
        yield visit.visit, visit.start
    for track in found[0].state.tracks if found else ():
        if track.visit:
            yield track.visit, track.first.time


def write_tables(store: Store, tracked: TrackedWindow) -> None:
    """The views of one window's record: its rows of `tracks`, and each visit that it changes."""
    camera, label = quote(tracked.window.camera, safe=""), tracked.window.label
    if tracked.seen:
        day = f"{label[:4]}-{label[4:6]}-{label[6:8]}"
        store.write(f"tables/tracks/camera={camera}/day={day}/{label}.parquet", rows.tracks(tracked))
    for visit in tracked.visits:
        store.write(_visit_path(tracked.window.camera, visit.visit, visit.start), rows.visit(visit))


def _commit(store: Store, window: Window, state: State | None, previous: str | None) -> tuple[TrackedWindow, str]:
    """Tracks a window and stores the record, or takes the one that is there; it and its digest."""
    path = tracked_path(window.camera, window.label)
    tracked = follow(window, state, previous)
    data = json_bytes(tracked)
    try:
        store.commit(path, data, None)
    except StoreConflict:
        there = _read(store, path)
        if there is None:
            raise
        tracked, data = there
    write_tables(store, tracked)
    head = Head(path=path, label=window.label)
    store.write(_head_path(window.camera), json_bytes(head))
    return tracked, digest(data)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _window(store: Store, name: WindowName, listed: Listed) -> Window | None:
    """What was found in a window; None where it is not analysed yet."""
    known = recorded_outcome(store, listed.source, listed.version)
    if known is None:
        return None
    about = {"camera": name.camera, "label": name.label, "start": name.start, "source": listed.source}
    if known.error is not None:
        return Window(**about, duration_s=0.0, media_id=None)
    found = read_result(store, known.media_id)
    if found is None:
        return None
    result = found[0]
    video = result.media.video
    return Window(
        **about,
        duration_s=result.media.duration_s,
        media_id=result.media_id,
        result_key=result.key,
        sample_fps=result.detections.sample_fps,
        width=video.width if video else 1,
        height=video.height if video else 1,
        frames=result.detections.frames,
    )


def _load_head(store: Store, camera: str) -> tuple[Head | None, TrackedWindow | None, str | None]:
    found = store.read(_head_path(camera))
    if found is None:
        return None, None, None
    try:
        head = Head.model_validate_json(found[0])
    except ValidationError as error:
        raise DamagedArtifact(f"{store.uri(_head_path(camera))} cannot be read; delete it: it is made again") from error
    there = _read(store, head.path)
    if there is None:
        raise DamagedArtifact(f"{store.uri(head.path)} is gone; delete {_head_path(camera)} to track from the start")
    return head, there[0], digest(there[1])


def _read(store: Store, path: str) -> tuple[TrackedWindow, bytes] | None:
    found = store.read(path)
    if found is None:
        return None
    try:
        return TrackedWindow.model_validate_json(found[0]), found[0]
    except ValidationError as error:
        raise DamagedArtifact(f"{store.uri(path)} holds no tracked window", detail=str(error)) from error


def _visit_path(camera: str, visit: str, start: float) -> str:
    return f"tables/visits/camera={quote(camera, safe='')}/day={rows.moment(start):%Y-%m-%d}/{visit}.parquet"


def _head_path(camera: str) -> str:
    return f"{_folder(camera)}/head.json"


def _folder(camera: str) -> str:
    return f"tracking/camera={quote(camera, safe='')}"


def _label(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")
