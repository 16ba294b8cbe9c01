"""A report of what cameras saw, made and stored: for the flow `report-activity`, the command and messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from flows.cli.when import read_moment
from flows.summary import plain
from tasks.activity import Progress, ReportFiles, read_activity, write_report
from tasks.core.activity.page import lasting, spoken
from tasks.core.activity.period import Period
from tasks.core.activity.rows import Activity
from tasks.core.errors import OptionError, StoreUnavailable
from tasks.store import Store, open_existing, open_store


class ActivityReport(BaseModel):
    """A report that was made."""

    id: str
    page: str
    """URI of report.html."""
    folder: str
    """URI of the folder with the page, report.json, and each table as CSV and Parquet."""
    span: str
    cameras: list[str]
    windows: int
    visits: int
    alerts: int
    recorded_s: float
    gap_s: float
    speech_s: float
    waiting: int
    set_aside: int
    cost_usd: float
    notices: list[str]

    def sentence(self) -> str:
        """The report for a person, or a phone."""
        told = [_counted(self.visits, "visit"), _counted(self.alerts, "alert"), f"{lasting(self.recorded_s)} recorded"]
        told += [f"{lasting(self.gap_s)} missing"] if self.gap_s else []
        told += [f"{lasting(self.speech_s)} of speech"] if self.speech_s else []
        told += [f"{_counted(self.waiting, 'window')} not analysed yet"] if self.waiting else []
        told += [f"{self.set_aside} set aside"] if self.set_aside else []
        return f"{', '.join(self.cameras) or 'No cameras'}, {self.span}: {', '.join(told)}."


def period(since: str, until: str, timezone: str, now: datetime | None = None) -> Period:
    """The period between two times as people write them. Raises OptionError."""
    try:
        begin, end = (read_moment(text, timezone, now).timestamp() for text in (since, until))
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from None
    except KeyError:
        raise OptionError(f"{timezone!r} is no time zone; write one as Europe/Berlin or UTC") from None
    try:
        return Period(begin=begin, end=end, timezone=timezone)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise OptionError(f"from {since} to {until} is no period: {said}") from None


def stored(address: str, recordings: str | None) -> Store:
    """The store; where recordings are named it may be new, for they have something to tell. Raises StoreUnavailable."""
    return open_store(address) if recordings else open_existing(address)


def make_report(
    store: Store,
    span: Period,
    recordings: str | None = None,
    cameras: Sequence[str] = (),
    out: Path | None = None,
    heard: Progress = lambda _done, _of: None,
) -> tuple[ActivityReport, Activity]:
    """Reads, adds up and stores; the same report made again takes the place of the last one.

    `out` is a folder that gets a copy of all its files. Raises what read_activity raises.
    """
    found = read_activity(store, span, recordings=recordings, cameras=cameras, now=time.time, heard=heard)
    files = write_report(store, found, cameras)
    if out:
        _copy(store, files, out)
    return _report(store, files, found), found


def markdown(found: Activity, page: str) -> str:
    """What cameras saw, for the Prefect UI: to be read in half a minute."""
    lines = [f"# {plain(', '.join(each.camera for each in found.cameras) or 'No cameras')}", ""]
    lines += [plain(spoken(found.period)), ""]
    lines += [line for notice in found.notices for line in (f"> **Note:** {plain(notice)}", "")]
    lines += ["| camera | visits | alerts | recorded | missing | speech | set aside | lag, median | USD |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {plain(row.camera)} | {row.visits} | {row.alerts} | {lasting(row.recorded_s)} | "
        f"{lasting(row.gap_s) if found.ledgers else '?'} | {lasting(row.speech_s)} | {row.set_aside} | "
        f"{lasting(row.lag_median_s)} | {row.cost_usd:.6f} |"
        for row in found.cameras
    ]
    if found.classes:
        lines += ["", "| class | visits | dwell, median | longest | boxes |", "|---|---|---|---|---|"]
        lines += [
            f"| {plain(row.class_)} | {row.visits} | {lasting(row.dwell_median_s)} | {lasting(row.dwell_longest_s)} | "
            f"{row.boxes} |"
            for row in found.classes[:40]
        ]
    if found.alerts:
        lines += ["", "## Alerts", ""]
        lines += [
            f"- {found.period.local(row.time):%a %H:%M:%S} **{plain(row.rule)}**, {plain(row.camera)}: {plain(row.why)}"
            for row in found.alerts[-20:]
        ]
    return "\n".join([*lines, "", f"Report: `{page.replace('`', '')}`"])


def _report(store: Store, files: ReportFiles, found: Activity) -> ActivityReport:
    whole = {name: int(found.total(name)) for name in ("windows", "visits", "alerts", "waiting", "set_aside")}
    seconds = {name: round(found.total(name), 3) for name in ("recorded_s", "gap_s", "speech_s")}
    return ActivityReport(
        id=files.id,
        page=store.uri(files.page),
        folder=files.uri,
        span=spoken(found.period),
        cameras=[camera.camera for camera in found.cameras],
        cost_usd=found.total("cost_usd"),
        notices=found.notices,
        **whole,
        **seconds,
    )


def _copy(store: Store, files: ReportFiles, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in store.list(files.folder):
            content = store.read(path)
            if content:
                (out / path.rpartition("/")[2]).write_bytes(content[0])
    except OSError as error:
        raise StoreUnavailable(f"{out}: the report cannot be written there ({error.strerror})") from None


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
