"""The file of rooms and senders: YAML, checked whole, with the line of each fault.

timezone: Europe/Berlin
recordings: s3://bucket/recordings/
senders: ["+4915112345678"]
rooms:
  Room 1: {camera: hall}
  Room 2: {camera: yard, zone: [[0, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]], also: [lab, "2"]}
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from tasks.core.alerts.clock import TimeZone
from tasks.core.alerts.place import Zone
from tasks.core.alerts.rules import Names
from tasks.core.options import Section
from tasks.core.source_names import carries_credentials
from tasks.core.written import read_file

MOST_ROOMS: Final = 500


def _is_plain(address: str) -> str:
    if carries_credentials(address):
        raise ValueError("it carries credentials; name a prefix whose credentials are in the environment")
    return address


class Room(Section):
    """A room that people are seen in."""

    camera: str = Field(min_length=1, max_length=200, description="The camera that sees it")
    zone: Zone | None = Field(None, description="Polygon that the visitors' bottom centre is in, parts of the frame")
    classes: Names = Field(("person",), alias="class", description="Who counts as a visitor")
    also: Names = Field((), description="What else it is called in messages")


class Book(Section):
    """Who may send messages, and what they may speak of."""

    timezone: TimeZone = Field("UTC", description="Of days, and of times in answers")
    recordings: Annotated[str, AfterValidator(_is_plain)] | None = Field(
        None, description="Where `ingest` puts windows; without it reports know of no gaps"
    )
    senders: tuple[Annotated[str, Field(min_length=3, max_length=64)], ...] = Field(
        (), description="Numbers that may send messages by SMS: +4915112345678, whatsapp:+4915112345678"
    )
    rooms: dict[Annotated[str, Field(min_length=1, max_length=60)], Room] = Field(
        default_factory=dict, max_length=MOST_ROOMS
    )

    @model_validator(mode="after")
    def _one_room_a_name(self) -> Book:
        names = [name for room, about in self.rooms.items() for name in {_plain(room), *map(_plain, about.also)}]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rooms are called {', '.join(twice)}")
        return self

    @property
    def names(self) -> dict[str, str]:
        """What rooms are called in messages, in lower case, and in this file."""
        return {_plain(name): room for room, about in self.rooms.items() for name in (room, *about.also)}


def read_book(text: str, name: str = "rooms") -> Book:
    """The book of a YAML file. Raises BadFile with `name:line: what is wrong` for every fault."""
    return read_file(text, Book, name)[0]


def _plain(name: str) -> str:
    return " ".join(name.lower().split())
