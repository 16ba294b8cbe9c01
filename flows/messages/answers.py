"""What is asked in a message, done: a report, how things are, rooms to clean, a room that was cleaned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import typer

from flows.activity import ActivityReport, make_report
from flows.cli.when import read_moment
from tasks.activity import report_folder, report_id
from tasks.alerts import stored_alerts
from tasks.cleaning import mark_cleaned, room_state, room_states
from tasks.core.activity.page import lasting
from tasks.core.activity.period import LONGEST_S, Period, midnight
from tasks.core.listing import list_folders
from tasks.core.live.names import CAMERA
from tasks.core.messages import cleaning
from tasks.core.messages.ask import HELP, Ask, read_message
from tasks.core.messages.book import Book, read_book
from tasks.core.messages.cleaning import Mark, local
from tasks.core.source_names import display_source
from tasks.core.written import BadFile
from tasks.records.artifacts import content_key
from tasks.records.recordings import rows_over
from tasks.settings import settings
from tasks.store import Store, open_store
from tasks.visits import tracked_cameras, tracked_until

Reporter = Callable[[Period, tuple[str, ...]], ActivityReport]
"""Makes a report of these cameras, all where none is named."""

FRESH_S: Final = 60.0
"""Cameras that were followed until so long ago need no word."""


class Sent(NamedTuple):
    """A message as it came."""

    text: str
    id: str
    """The same when it is sent again."""
    by: str
    """Who sent it, as it may be shown."""
    at: float


class Task(NamedTuple):
    """What a message comes to."""

    page: str | None
    """Id of the page that it makes; None where the answer is all."""
    work: Callable[[], str]
    """Does it, and says the answer. Raises ReelflowError."""


class Answers:
    """Answers messages about one store."""

    def __init__(self, store: Store, book: Book, report: Reporter | None = None) -> None:
        self.store, self._book = store, book
        self._report = report or self._report_here

    def take(self, sent: Sent) -> Task:
        """What is to be done for a message; nothing is done yet."""
        ask = read_message(sent.text, self._book.names)
        if ask.kind == "report":
            return self._reporting(ask, sent.at)
        if ask.kind == "cleaning":
            page = content_key("cleaning", self._book)
            return Task(page, lambda: self._cleaning(page, sent.at))
        work = {"status": lambda: self._status(sent.at), "clean": lambda: self._clean(ask.room, sent)}
        return Task(None, work.get(ask.kind, lambda: f"{ask.why} {HELP}".strip()))

    def _reporting(self, ask: Ask, now: float) -> Task:
        try:
            period = span(ask.span, self._book.timezone, now)
        except ValueError as error:
            said = str(error)
            return Task(None, lambda: said)
        source = display_source(self._book.recordings) if self._book.recordings else self.store.root
        page = report_id(source, ask.cameras, period)
        return Task(page, lambda: self._report(period, ask.cameras).sentence())

    def _report_here(self, period: Period, cameras: tuple[str, ...]) -> ActivityReport:
        return make_report(self.store, period, self._book.recordings, cameras)[0]

    def _clean(self, room: str, sent: Sent) -> str:
        mark = mark_cleaned(self.store, room, Mark(id=sent.id, at=round(sent.at, 3), by=sent.by))
        before = room_state(self.store, room, self._book.rooms[room], mark.at, leave_out=mark.id)
        return f"Marked as cleaned, {local(mark.at, self._book.timezone)}. Before: {before.line(self._book.timezone)}."

    def _cleaning(self, page: str, now: float) -> str:
        states = room_states(self.store, self._book, now)
        html = cleaning.page(states, self._book.timezone, now)
        self.store.write(f"{report_folder(page)}/report.html", html.encode())
        visited = sorted((state for state in states if state.visits), key=lambda state: -state.seconds)
        rest = [state for state in states if not state.visits]
        lines = [state.line(self._book.timezone) for state in (*visited, *rest)]
        return "\n".join(lines) or "The book names no rooms."

    def _status(self, now: float) -> str:
        return "\n".join(self._states(now)) or "Nothing is known of any camera."

    def _states(self, now: float) -> Iterator[str]:
        from flows.watch.status import read_all

        zone, book = self._book.timezone, self._book
        recordings = open_store(book.recordings) if book.recordings else None
        for camera in self._cameras():
            until = tracked_until(self.store, camera)
            said = "nobody follows it" if until is None else f"followed until {local(until, zone)}"
            if until is not None and now - until > FRESH_S:
                said += f", {lasting(now - until)} ago"
            if recordings and CAMERA.fullmatch(camera):
                at = datetime.fromtimestamp(now, UTC)
                for gap in rows_over(recordings, "gaps", camera, at - timedelta(seconds=1), at):
                    if gap["end"] is None:
                        since = datetime.fromisoformat(gap["start"]).timestamp()
                        said += f"; nothing recorded since {local(since, zone)} ({gap['cause']})"
            yield f"{camera}: {said}"
        today = read_moment("today", zone, datetime.fromtimestamp(now, UTC)).timestamp()
        count = sum(1 for _ in stored_alerts(self.store, today, now + 1))
        yield f"{count} {'alert' if count == 1 else 'alerts'} today"
        for status in read_all(self.store):
            yield next(iter(status.lines()))

    def _cameras(self) -> list[str]:
        if not self._book.recordings:
            return tracked_cameras(self.store)
        names = list_folders(self._book.recordings, settings().s3)
        return [name.removeprefix("camera=") for name in names if name.startswith("camera=")]


def span(written: str, timezone: str, now: float) -> Period:
    """A day as a whole, or from so long ago until now. Raises ValueError for a day that is none, or too long ago."""
    at = datetime.fromtimestamp(now, UTC)
    begin = read_moment(written, timezone, at)
    if written[:1].isdigit() and "-" not in written:
        if now - begin.timestamp() >= LONGEST_S:
            raise ValueError("A report is of a year at most.")
        return Period(begin=math.floor(begin.timestamp()), end=math.ceil(now), timezone=timezone)
    day = date(begin.year, begin.month, begin.day) + timedelta(days=1)
    return Period(begin=begin.timestamp(), end=midnight(day, timezone), timezone=timezone)


def load_book(path: Path) -> Book:
    """The book of a file. Raises typer.BadParameter with a line for each fault."""
    try:
        return read_book(path.read_text("utf-8"), path.name)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    except (BadFile, UnicodeDecodeError) as error:
        raise typer.BadParameter(str(error)) from error
