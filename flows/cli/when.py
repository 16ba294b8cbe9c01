"""Times as a person writes them on a command line: a day, a moment, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

import typer

from tasks.core.activity.period import midnight
from tasks.core.alerts.clock import zone

_AGO: Final = re.compile(r"([0-9]{1,6}) ?(m|min|minutes?|h|hours?|d|days?|w|weeks?)(?: ago)?")
_DAY: Final = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_moment(text: str, timezone: str = "UTC", now: datetime | None = None) -> datetime:
    """`2026-11-21`, `2026-11-21T14:05+01:00`, `today`, `yesterday`, `tomorrow`, `now`, `36h`, `7 days ago`.

    A day is its first moment; days and times without an offset are the place's. Raises ValueError for anything else,
    saying what can be written.
    """
    written = text.strip().lower()
    now = now or datetime.now(UTC)
    place = zone(timezone)
    today = now.astimezone(place).date()
    days = {"today": today, "yesterday": today - timedelta(days=1), "tomorrow": today + timedelta(days=1)}
    try:
        if written == "now":
            return now
        if ago := _AGO.fullmatch(written):
            return now - timedelta(**{_UNITS[ago[2][0]]: int(ago[1])})
        day = days.get(written) or (date.fromisoformat(written) if _DAY.fullmatch(written) else None)
        if day:
            return datetime.fromtimestamp(midnight(day, timezone), place)
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time. Write a day (2026-11-21), a moment (2026-11-21T14:05, {timezone} unless an offset "
            "like +01:00 follows), today, yesterday, or how long ago: 36h, 7d, 2w."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=place)


def moment(text: str, now: datetime | None = None) -> datetime:
    """What read_moment reads, in UTC, for a command line: raises typer.BadParameter."""
    try:
        return read_moment(text, now=now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
