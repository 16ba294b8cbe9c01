"""What a message asks: a few words in any case, as people type them on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from tasks.core.schema import Record

MOST_LETTERS: Final = 1600
"""What Twilio takes as one message."""

HELP: Final = (
    "Write: status; report today (yesterday, 2026-11-21, 7d; then cameras); cleaning; clean ROOM, when it is cleaned."
)

_DAY: Final = re.compile(r"today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,3} ?(?:hours?|days?|weeks?|h|d|w)")
_CLEAN: Final = re.compile(
    r"(?:(?:clean|cleaned|done)\b(?: with)? (?P<after>.+)|(?P<before>.+?) (?:is |was )?(?:clean|cleaned|done))"
)


class Ask(Record):
    """A message that was understood, or why it was not."""

    kind: Literal["report", "status", "cleaning", "clean", "help"]
    span: str = "today"
    """Of a report: a day, or how long ago it begins."""
    cameras: tuple[str, ...] = ()
    """Of a report; none: all."""
    room: str = ""
    """Of a room that was cleaned, as the book calls it."""
    why: str = ""
    """Of help: what was not understood."""


def read_message(text: str, rooms: dict[str, str]) -> Ask:
    """What a message asks. `rooms` are the names of rooms, in lower case, and what the book calls them."""
    words = " ".join(text[:MOST_LETTERS].lower().split()).strip(" .!?,;:")
    if words in ("status", "state", "how are you"):
        return Ask(kind="status")
    if words in ("cleaning", "cleaning report", "rooms", "clean", "report cleaning", "report rooms"):
        return Ask(kind="cleaning")
    if words == "report" or words.startswith("report "):
        return _report(words.removeprefix("report").strip(), text)
    if found := _CLEAN.fullmatch(words):
        named = (found["after"] or found["before"]).strip(" .!?,;:")
        for name in (named, named.removeprefix("the ")):
            if name in rooms:
                return Ask(kind="clean", room=rooms[name])
        return Ask(kind="help", why=f"There is no room {_shown(named)}. {_rooms(rooms.values())}")
    return Ask(kind="help", why="" if words in ("", "help", "?") else f"{_shown(words)} is nothing that I know.")


def _report(rest: str, text: str) -> Ask:
    rest = re.sub(r"^(?:for|of|on|since) ", "", rest)
    span = _DAY.match(rest)
    named = rest[span.end() :] if span else rest
    named = re.sub(r"^ ?(?:for|of|from|at) ", " ", named)
    if span and named and not named.startswith((" ", ",")):
        return Ask(kind="help", why=f"{_shown(rest)} is no day.")
    asked = {word.strip(".,;").lower() for word in re.split(r"[\s,]+", named) if word.strip(".,;")} - {"and", "camera"}
    written = re.split(r"[\s,]+", text)
    cameras = [word.strip(".,;") for word in written if word.strip(".,;").lower() in asked]
    return Ask(kind="report", span=span[0] if span else "today", cameras=tuple(dict.fromkeys(cameras)))


def _rooms(names: Iterable[str]) -> str:
    return f"There is {', '.join(sorted(set(names)))}." if names else "The book names no rooms."


def _shown(text: str) -> str:
    short = text if len(text) <= 40 else f"{text[:40]}..."
    return "".join(c for c in f'"{short}"' if c.isprintable())
