"""Alerts and visits of cameras, newest first: only the days that are shown are listed, only their rows are read."""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote

from pydantic import ValidationError

from flows.explorer.kept import Kept
from tasks.core.activity.rows import VisitRow
from tasks.core.alerts.clock import zone
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.message import PRE_ROLL_S
from tasks.core.errors import DamagedArtifact
from tasks.core.search.query import MEDIA_ID
from tasks.core.tracking.rows import Best, read_best
from tasks.records.deliveries import Delivery, deliveries_of
from tasks.store import Store, Stored

KEEP_S: Final = 5.0
"""How old a list of days or of a day's rows may be, and a visit that goes on."""

MOST_CAMERAS: Final = 500
MOST_A_DAY: Final = 2000
"""Rows of one day that are read: of a day with more, those that were written last."""

MOST_ROW_BYTES: Final = 2**20
"""A larger file is none of ours."""

LATE_S: Final = 2 * 86400.0
"""An alert lies under the day on which its visit began; one that fires later than this after it may stand too low."""

_LAST: Final = datetime(9999, 12, 1, tzinfo=UTC).timestamp()
_MOST_MEDIA_S: Final = 1e7
_READERS: Final = 8
_DAY_S: Final = 86400.0

Cursor = tuple[float, str]
"""Time and id of a row; rows stand in the falling order of it."""

_CURSOR: Final = re.compile(r"(\d{1,12}\.\d{3})~([0-9a-f]{16,32})")


def parse_cursor(text: str) -> Cursor | None:
    """What `Page.last` says; None for anything else."""
    match = _CURSOR.fullmatch(text)
    return (float(match[1]), match[2]) if match else None


@dataclass(frozen=True)
class Asked:
    """Which rows are listed: those in [begin, end), Unix times, and behind a row that was shown already."""

    camera: str | None = None
    begin: float = 0.0
    end: float = _LAST
    after: Cursor | None = None

    def fits(self, cursor: Cursor) -> bool:
        return self.begin <= cursor[0] < self.end and (self.after is None or cursor < self.after)

    @property
    def before(self) -> float:
        """No row begins later."""
        return self.end if self.after is None else min(self.end, self.after[0] + 0.001)


class Visit(NamedTuple):
    row: VisitRow
    best: Best


T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    rows: list[T]
    last: str
    """Cursor of the last row."""
    more: bool
    cut: bool
    """A day has more rows than are read."""


@dataclass(frozen=True)
class _Kind(Generic[T]):
    """One sort of rows, which lie as ROOT/camera=NAME/DAY/ID.ENDING."""

    root: str
    day: re.Pattern[str]
    file: re.Pattern[str]
    read: Callable[[bytes, str], T]
    about: Callable[[T], tuple[str, Cursor]]
    """Camera, and where the row stands."""
    late_s: float
    """So long after its day a row's time may lie."""


_ALERTS: Final = _Kind(
    "alerts/rows",
    re.compile(r"(\d{4}-\d\d-\d\d)"),
    re.compile(r"([0-9a-f]{32})\.json"),
    lambda data, _: Alert.model_validate_json(data),
    lambda alert: (alert.camera, (round(alert.time, 3), alert.id)),
    LATE_S,
)
_VISITS: Final = _Kind(
    "tables/visits",
    re.compile(r"day=(\d{4}-\d\d-\d\d)"),
    re.compile(r"([0-9a-f]{16})\.parquet"),
    lambda data, path: Visit(*read_best(data, path)),
    lambda visit: (visit.row.camera, (round(visit.row.start, 3), visit.row.visit)),
    0.0,
)


class Sightings:
    """Safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: Kept[str, list[str]] = Kept(2 * MOST_CAMERAS, KEEP_S)
        self._files: Kept[str, list[Stored]] = Kept(256, KEEP_S)
        self._alerts: Kept[str, Alert | None] = Kept(10_000)
        self._visits: Kept[str, Visit | None] = Kept(10_000, KEEP_S)

    def alerts(self, asked: Asked, count: int) -> Page[Alert]:
        return self._newest(_ALERTS, self._alerts, asked, count)

    def visits(self, asked: Asked, count: int) -> Page[Visit]:
        """By the time at which they began."""
        return self._newest(_VISITS, self._visits, asked, count)

    def deliveries(self, alerts: Iterable[Alert]) -> list[list[Delivery] | None]:
        """The ledger's rows of each alert; None where they cannot be read."""
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._ledger, alerts))

    def cameras(self) -> list[str]:
        """Those that have alerts or visits."""
        return sorted({_camera(folder) for kind in (_ALERTS, _VISITS) for folder in self._folders(kind.root)})

    def _newest(self, kind: _Kind[T], kept: Kept[str, T | None], asked: Asked, count: int) -> Page[T]:
        found: list[tuple[Cursor, T]] = []
        cut = False
        with ThreadPoolExecutor(_READERS) as pool:
            for day, folders in self._days_of(kind, asked.camera, pool):
                ends = day + _DAY_S + kind.late_s
                if day >= asked.before:
                    continue
                if ends <= asked.begin or (len(found) > count and found[count][0][0] >= ends):
                    break
                files = [file for listed in pool.map(self._listed, folders) for file in listed]
                if len(files) > MOST_A_DAY:
                    cut, files = True, heapq.nlargest(MOST_A_DAY, files, key=lambda file: file.modified)
                rows = pool.map(lambda file: kept.get(file.path, partial(self._read, kind, file)), files)
                found += [(at, row) for row in rows if row is not None and asked.fits(at := kind.about(row)[1])]
                found.sort(key=lambda each: each[0], reverse=True)
        shown = found[:count]
        last = f"{shown[-1][0][0]:.3f}~{shown[-1][0][1]}" if shown else ""
        return Page([row for _, row in shown], last, len(found) > count, cut)

    def _days_of(
        self, kind: _Kind[T], camera: str | None, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[float, list[str]]]:
        """(when a day begins, UTC; its folders), newest first."""
        days: dict[float, list[str]] = {}
        cameras = [name for name in self._folders(kind.root) if camera is None or _camera(name) == camera]
        parents = [f"{kind.root}/{name}" for name in cameras]
        for parent, names in zip(parents, pool.map(self._folders, parents), strict=True):
            for name in names:
                match = kind.day.fullmatch(name)
                begins = _midnight(match[1]) if match else None
                if begins is not None:
                    days.setdefault(begins, []).append(f"{parent}/{name}")
        yield from sorted(days.items(), reverse=True)

    def _folders(self, path: str) -> list[str]:
        return self._names.get(path, lambda: list(self._store.folders(path)))

    def _listed(self, folder: str) -> list[Stored]:
        return self._files.get(folder, lambda: list(self._store.scan(folder)))

    def _read(self, kind: _Kind[T], file: Stored) -> T | None:
        """A row; None where it is damaged, or says that it stands elsewhere."""
        _, camera, _, name = file.path.rsplit("/", 3)
        match = kind.file.fullmatch(name)
        data = self._store.read(file.path) if match and file.bytes <= MOST_ROW_BYTES else None
        if data is None or match is None:
            return None
        try:
            row = kind.read(data[0], file.path)
        except (ValidationError, DamagedArtifact):
            logging.getLogger(__name__).warning("%s is damaged, and not shown", file.path)
            return None
        says, (time, name) = kind.about(row)
        return row if (says, name) == (_camera(camera), match[1]) and 0 <= time < _LAST else None

    def _ledger(self, alert: Alert) -> list[Delivery] | None:
        try:
            return deliveries_of(self._store, alert.id)
        except ValidationError:
            return None


def alert_card(alert: Alert, ledger: list[Delivery] | None, place: str) -> dict[str, Any]:
    """An alert as the page shows it, with the time by the clock of `place`."""
    return {
        "id": alert.id,
        "camera": alert.camera,
        "rule": alert.rule,
        "why": alert.why,
        **_moment("", alert.time, place),
        "href": _watch(alert.media_id, alert.media_time),
        "picture": f"/api/alerts/{alert.id}/picture",
        "deliveries": None if ledger is None else [_delivery(row, place) for row in ledger],
    }


def visit_card(visit: Visit, place: str) -> dict[str, Any]:
    """A visit as the page shows it; it opens where it is seen best."""
    row, best = visit
    box = ",".join(f"{edge:.5f}" for edge in best.place)
    href = _watch(best.media_id, best.media_time)
    return {
        "id": row.visit,
        "camera": row.camera,
        "class": row.class_,
        **_moment("", row.start, place),
        **_moment("end_", row.end, place),
        "dwell": row.dwell_s,
        "lasts": row.lasts,
        "href": href,
        "picture": f"/api/media/{best.media_id}/frame?t={best.media_time!r}&box={box}" if href else None,
    }


def _delivery(row: Delivery, place: str) -> dict[str, Any]:
    last = row.attempts[-1] if row.attempts else None
    unsure = last.said if last and row.state in ("open", "failed") else ""
    return {
        "target": row.target,
        "state": row.state,
        "why": row.why or unsure,
        "tries": len(row.attempts),
        **_moment("", last.at if last else None, place),
    }


def _moment(name: str, at: float | None, place: str) -> dict[str, str | None]:
    """Local day, and time with the zone."""
    if at is None or not 0 <= at < _LAST:
        return {f"{name}day": None, f"{name}time": None}
    local = datetime.fromtimestamp(at, zone(place))
    return {f"{name}day": f"{local:%Y-%m-%d}", f"{name}time": f"{local:%H:%M:%S %Z}"}


def _watch(media_id: str | None, time: float | None) -> str | None:
    """Address of the player some seconds before a moment; None where no media has it."""
    if media_id is None or not MEDIA_ID.fullmatch(media_id) or time is None or not 0 <= time < _MOST_MEDIA_S:
        return None
    return f"/media/{media_id}#t={max(0.0, time - PRE_ROLL_S):.2f}"


def _camera(folder: str) -> str:
    return unquote(folder.removeprefix("camera="))


def _midnight(day: str) -> float | None:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
