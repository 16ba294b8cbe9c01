"""Times as a person writes them on a command line: a day, a moment, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_AGO: Final = re.compile(r"([0-9]{1,6}) ?(m|min|minutes?|h|hours?|d|days?|w|weeks?)(?: ago)?")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime | None = None) -> datetime:
    """`2026-11-21`, `2026-11-21T14:05+01:00`, `today`, `yesterday`, `now`, `36h`, `7 days ago`; UTC without an offset.

    A day is its first moment. Raises typer.BadParameter for anything else, saying what can be written.
    """
    written = text.strip().lower()
    now = now or datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if written in named:
        return named[written]
    try:
        if ago := _AGO.fullmatch(written):
            return now - timedelta(**{_UNITS[ago[2][0]]: int(ago[1])})
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time. Write a day (2026-11-21), a moment (2026-11-21T14:05, UTC unless an offset like "
            "+01:00 follows), today, yesterday, or how long ago: 36h, 7d, 2w."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
