"""What a store and recordings know of cameras over a stretch of time, read and added up; and where reports lie."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tasks.alerts import image_path, stored_alerts
from tasks.core.activity.page import MOST_PICTURES, page, thumbnail
from tasks.core.activity.period import Period
from tasks.core.activity.rows import Activity, AlertRow, GapRow, HealthRow, WindowRow
from tasks.core.activity.tables import TABLES, csv_text, parquet
from tasks.core.activity.tally import Tally
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.message import line
from tasks.core.errors import DamagedArtifact, SourceNotFound
from tasks.core.events.lag import TABLE as LAGS
from tasks.core.listing import Listed, Selection, list_folders, list_media
from tasks.core.live.names import CAMERA, KEY, WindowRecord
from tasks.core.publish.tables import camera_of, recorded_at
from tasks.core.records import json_bytes
from tasks.core.schema import Quarantined, Record, Result
from tasks.core.source_names import display_source
from tasks.core.tracking.records import window_name
from tasks.records.artifacts import content_key
from tasks.records.deliveries import deliveries_of
from tasks.records.recordings import read_window, rows_over
from tasks.records.results import read_result, table_path
from tasks.records.sources import recorded_outcome
from tasks.settings import settings
from tasks.store import Store, open_store, own_objects
from tasks.visits import tracked_cameras, tracked_until, visits_between

READERS: Final = 12
"""Objects that are read at the same time."""
AHEAD: Final = 64
"""Windows that are in memory at the same time, whole."""
REACH_S: Final = 60.0
"""Windows that begin so long before the period are looked at; of older ones only the last: it may reach into it."""

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int, int], None]
"""(windows read, windows to read)."""


class ReportFiles(Record):
    """Where a report lies."""

    id: str
    """Of what it is about: the same report made again takes the place of the last one."""
    folder: str
    """Path in the store."""
    uri: str
    page: str
    """Path in the store of report.html."""


class _Found(NamedTuple):
    """A window, and how to learn what became of it."""

    camera: str
    start: float
    listed: Listed | None
    media_id: str | None
    row: WindowRow | None = None
    """All that is known of what has no result."""


def read_activity(
    store: Store,
    period: Period,
    *,
    recordings: str | None = None,
    cameras: Sequence[str] = (),
    now: Callable[[], float] = time.time,
    heard: Progress = lambda _done, _of: None,
) -> Activity:
    """What the cameras saw in the period, all of them where none is named.

    `recordings` is where `ingest` puts windows: with it, windows that wait for analysis, gaps and the cameras' health
    are known; else what the store's results say counts. Raises SourceNotFound for a camera that is not there,
    StoreUnavailable, DamagedArtifact and what list_media raises.
    """
    made = now()
    if recordings:
        chosen, found = _recorded(store, recordings, period, cameras)
    else:
        chosen, found = _stored(store, period, cameras)
    tally, demonstration, done = Tally(period, chosen), False, 0
    folder = open_store(recordings) if recordings else None
    with ThreadPoolExecutor(READERS) as pool:
        for row, result in _ahead(pool, lambda one: _look(store, folder, one), found):
            tally.window(row, result)
            demonstration = demonstration or bool(result and result.is_demonstration)
            heard(done := done + 1, len(found))
    followed: dict[str, float] = {}
    for camera in chosen:
        for visit in visits_between(store, camera, period.begin, period.end):
            tally.visit(visit)
        for alert in stored_alerts(store, period.begin, period.end, camera):
            tally.alert(_alert_row(store, alert))
        if (until := tracked_until(store, camera)) is not None:
            followed[camera] = until
        if folder and CAMERA.fullmatch(camera):
            _ledgers(tally, folder, camera, period, min(made, period.end))
    return tally.activity(
        made=made,
        source=display_source(recordings) if recordings else store.root,
        ledgers=folder is not None,
        tracked_until=followed,
        notices=list(_notices(tally, period, made, followed, recordings, demonstration=demonstration)),
    )


def report_id(source: str, cameras: Iterable[str], period: Period) -> str:
    """32 hex digits, of what a report is about."""
    return content_key("activity", source, sorted(cameras), period)


def report_folder(report: str) -> str:
    return f"reports/{report}"


def write_report(store: Store, activity: Activity, cameras: Iterable[str] = ()) -> ReportFiles:
    """Stores the page, the figures as JSON and every table as CSV and Parquet; the page last.

    `cameras` are those that were asked for, none where all were.
    """
    report = report_id(activity.source, cameras, activity.period)
    folder = report_folder(report)
    for name in TABLES:
        store.write(f"{folder}/{name}.csv", csv_text(activity, name))
        store.write(f"{folder}/{name}.parquet", parquet(activity, name))
    store.write(f"{folder}/report.json", figures(activity))
    store.write(f"{folder}/report.html", page(activity, dict(_pictures(store, activity))).encode())
    return ReportFiles(id=report, folder=folder, uri=store.uri(folder), page=f"{folder}/report.html")


def figures(activity: Activity) -> bytes:
    """The report without its long tables, as JSON."""
    return json_bytes(activity, exclude={"windows", "visits", "alerts", "gaps", "health"})


def _recorded(store: Store, recordings: str, period: Period, wanted: Sequence[str]) -> tuple[list[str], list[_Found]]:
    """Cameras, and the windows that a listing shows, day by day: a listing of all days could be a million objects."""
    options = settings().s3
    names = [name for name in list_folders(recordings, options) if name.startswith("camera=")]
    folders = {unquote(name.removeprefix("camera=")): name for name in names}
    if not folders:
        raise SourceNotFound(
            f"{display_source(recordings)}: there are no recordings of cameras; name the folder or prefix that "
            "`ingest --to` was given"
        )
    chosen = _chosen(wanted, folders, display_source(recordings))
    found = []
    for camera in chosen:
        listed: list[tuple[float, Listed]] = []
        for day in period.utc_days(before=1):
            under = f"{recordings.rstrip('/')}/{folders[camera]}/{day:%Y/%m/%d}"
            try:
                for each in list_media(f"{under}/", Selection(), options, leave_out=own_objects(store)):
                    if name := window_name(each.source):
                        listed.append((name.start, each))
            except SourceNotFound:
                continue  # a folder of no such day
        listed.sort(key=lambda each: each[0])
        before = max((start for start, _ in listed if start < period.begin), default=period.begin)
        first = min(before, period.begin - REACH_S)
        found += [_Found(camera, start, each, None) for start, each in listed if first <= start < period.end]
    return chosen, found


def _stored(store: Store, period: Period, wanted: Sequence[str]) -> tuple[list[str], list[_Found]]:
    """Cameras and windows of the store's results and of what it has set aside."""
    columns = ["media_id", "source", "camera", "recorded", "duration_s"]
    known = set(tracked_cameras(store))
    found = []
    with ThreadPoolExecutor(READERS) as pool:
        for path, data in _ahead(pool, lambda path: (path, store.read(path)), store.list("tables/runs")):
            row = _first_row(data[0], columns, path) if data else None
            if row is None or row["camera"] is None or row["recorded"] is None:
                continue
            known.add(row["camera"])
            start = row["recorded"].timestamp()
            if start < period.end and start + row["duration_s"] >= period.begin:
                found.append(_Found(row["camera"], start, None, row["media_id"]))
    for path in store.list("quarantine"):
        record = _set_aside(store, path)
        camera, at = (camera_of(record.source), recorded_at(record.source)) if record else (None, None)
        if record and camera and at and period.holds(at.timestamp()):
            known.add(camera)
            aside = WindowRow(
                camera=camera,
                start=at.timestamp(),
                duration_s=0.0,
                state="set_aside",
                link=record.source,
                media_id=record.media_id,
                reason=f"{record.code}: {record.message}",
            )
            found.append(_Found(camera, at.timestamp(), None, None, aside))
    chosen = _chosen(wanted, known, store.root)
    return chosen, sorted((each for each in found if each.camera in chosen), key=lambda each: each[:2])


def _chosen(wanted: Sequence[str], known: Iterable[str], where: str) -> list[str]:
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise SourceNotFound(f"{where}: there is no camera {unknown[0]!r}; there is {there}")
    return sorted(set(wanted) or set(known))


def _look(store: Store, recordings: Store | None, found: _Found) -> tuple[WindowRow, Result | None]:
    """What became of a window."""
    if found.row:
        return found.row, None
    media_id, reason = found.media_id, ""
    if found.listed:
        outcome = recorded_outcome(store, found.listed.source, found.listed.version)
        if outcome and outcome.error:
            reason = f"{outcome.error.get('code', '')}: {outcome.error.get('message', '')}"
        media_id = outcome.media_id if outcome else None
    result = None if reason or media_id is None else (read_result(store, media_id) or (None,))[0]
    if result:
        return _analysed(found, result, _lag(store, found, result)), result
    listed = found.listed
    said = _recorder_said(recordings, listed) if recordings and listed else None
    row = WindowRow(
        camera=found.camera,
        start=found.start,
        duration_s=said.wall_duration_s if said else 0.0,
        state="set_aside" if reason else "waiting",
        link=display_source(listed.source) if listed else "",
        media_id=media_id,
        reason=reason,
        bytes=listed.bytes if listed else None,
    )
    if said:
        audio = said.audio_codec or None
        about = {"width": said.width or None, "height": said.height or None, "fps": said.fps, "codec": said.codec}
        row = row.model_copy(update=about | {"audio_codec": audio})
    return row, None


def _analysed(found: _Found, result: Result, lag_s: float | None) -> WindowRow:
    media = result.media
    video, audio = media.video, media.audio
    return WindowRow(
        camera=found.camera,
        start=found.start,
        duration_s=media.duration_s,
        state="analysed",
        link=display_source(found.listed.source if found.listed else result.source),
        media_id=result.media_id,
        width=video.width if video else None,
        height=video.height if video else None,
        fps=round(float(video.fps), 3) if video else None,
        codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        channels=audio.channels if audio else None,
        sample_rate=audio.sample_rate if audio else None,
        bytes=media.bytes,
        lag_s=lag_s,
        cost_usd=result.cost.get("total", 0.0),
    )


def _lag(store: Store, found: _Found, result: Result) -> float | None:
    """Of this window's own result; the same bytes under two names have one row."""
    path = table_path(LAGS, result.media_id)
    data = store.read(path)
    row = _first_row(data[0], ["source", "total_s"], path) if data else None
    source = found.listed.source if found.listed else result.source
    return float(row["total_s"]) if row and row["source"] == source else None


def _recorder_said(recordings: Store, listed: Listed) -> WindowRecord | None:
    named = KEY.search(listed.source)
    return read_window(recordings, named[0]) if named else None


def _first_row(data: bytes, columns: list[str], path: str) -> dict[str, Any] | None:
    """The first row of a Parquet file; None where it has none. Raises DamagedArtifact."""
    try:
        rows = pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise DamagedArtifact(f"{path} is no table; analyse its media again", detail=str(error)) from error
    return rows[0] if rows else None


def _set_aside(store: Store, path: str) -> Quarantined | None:
    found = store.read(path)
    try:
        return Quarantined.model_validate_json(found[0]) if found else None
    except ValidationError:
        return None


def _alert_row(store: Store, alert: Alert) -> AlertRow:
    return AlertRow(
        id=alert.id,
        rule=alert.rule,
        camera=alert.camera,
        time=alert.time,
        classes=alert.classes,
        why=alert.why,
        visit=alert.visit,
        link=line(alert)["clip"],
        deliveries={row.target: row.state for row in deliveries_of(store, alert.id)},
    )


def _ledgers(tally: Tally, recordings: Store, camera: str, period: Period, until: float) -> None:
    """Gaps and health; what lasts is counted until now."""
    since, before = (datetime.fromtimestamp(at, UTC) for at in (period.begin, period.end))
    for row in rows_over(recordings, "gaps", camera, since, before):
        tally.gap(GapRow(camera=camera, cause=str(row["cause"]), **_span(row, until)))
    for row in rows_over(recordings, "events", camera, since, before):
        tally.ill(HealthRow(camera=camera, kind=str(row["kind"]), **_span(row, until)))


def _span(row: dict[str, Any], until: float) -> dict[str, Any]:
    start = datetime.fromisoformat(row["start"]).timestamp()
    end = datetime.fromisoformat(row["end"]).timestamp() if row["end"] else max(start, until)
    return {"start": start, "end": end, "lasts": row["end"] is None}


def _notices(
    tally: Tally,
    period: Period,
    made: float,
    followed: dict[str, float],
    recordings: str | None,
    *,
    demonstration: bool,
) -> Iterator[str]:
    """What a reader must know before the figures."""
    if demonstration:
        yield "Bundled demonstration models made some of these results: what they say of real recordings means nothing."
    if made < period.end:
        yield f"The period is not over: this is what was known at {period.local(made):%Y-%m-%d %H:%M:%S %Z}."
    if waiting := sum(row.state == "waiting" for row in tally.windows):
        what = "1 window is" if waiting == 1 else f"{waiting} windows are"
        yield f"{what} not analysed yet; what they show is in no figure."
    last: dict[str, float] = {}
    for row in tally.windows:
        if row.state == "analysed":
            last[row.camera] = max(last.get(row.camera, 0.0), row.start)
    for camera, at in sorted(last.items()):
        if camera not in followed:
            yield f"Nobody follows {camera}: without `alerts run` there are no visits and no alerts."
        elif followed[camera] <= at:
            until = f"{period.local(followed[camera]):%Y-%m-%d %H:%M:%S %Z}"
            yield f"{camera} is followed until {until}; later visits are missing."
    if not recordings:
        yield "No recordings were named, so gaps, the cameras' health and windows that wait are not known."


def _pictures(store: Store, activity: Activity) -> Iterator[tuple[str, bytes]]:
    """Small pictures of the last alerts, by alert."""
    for row in activity.alerts[-MOST_PICTURES:]:
        found = store.read(image_path(row.id))
        if found and (small := thumbnail(found[0])):
            yield row.id, small


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results in order, with at most AHEAD of them begun."""
    begun: deque[Future[R]] = deque()
    for item in chain(items):
        begun.append(pool.submit(work, item))
        if len(begun) >= AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
