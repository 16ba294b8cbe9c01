"""What is asked, and what is answered."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from tasks.core.records import json_bytes
from tasks.core.schema import Record

Kind = Literal["speech", "objects", "scenes", "tags"]
KINDS: Final[tuple[Kind, ...]] = ("speech", "objects", "tags", "scenes")
MEDIA_ID: Final = re.compile(r"[0-9a-f]{32}")
MODEL: Final = re.compile(r"[0-9a-f]{8,64}")
"""Digest of a model."""

MediaId = Annotated[str, StringConstraints(pattern=f"^{MEDIA_ID.pattern}$")]


class QueryError(ValueError):
    """A question that cannot be asked; the message says what to write instead."""


def printable(text: str) -> str:
    """The text on one line, without control and direction characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class Query(BaseModel):
    """One question. The filters are joined by "and"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(
        min_length=1,
        max_length=500,
        description='Words, "a phrase", classes of objects (2 cars, exactly 2 cars, person and car within 5 s, '
        "conf>0.5), from 1:00 to 2:00",
    )
    kinds: frozenset[Kind] = Field(
        frozenset(KINDS),
        min_length=1,
        description="Where to look: speech, objects, tags, scenes (what frames look like)",
    )
    media: frozenset[MediaId] = Field(frozenset(), max_length=1000, description="Only these media; default all")
    prefix: str | None = Field(None, max_length=2000, description="Only sources that begin with this")
    camera: str | None = Field(None, max_length=200, description="Only this camera")
    since: datetime | None = Field(None, description="Only media recorded (else analysed) at or after this time")
    until: datetime | None = Field(None, description="Only media recorded (else analysed) before this time")
    limit: int = Field(20, ge=1, le=500, description="Most moments in the answer")
    model: str | None = Field(
        None, pattern=f"^{MODEL.pattern}$", description="Digest of the model that the text is embedded with"
    )

    @property
    def filters(self) -> bool:
        """Does it look at a part of the media only?"""
        return bool(self.media or self.prefix or self.since or self.until) or self.camera is not None

    @field_validator("text")
    @classmethod
    def _printable(cls, text: str) -> str:
        cleaned = printable(text)
        if not cleaned:
            raise ValueError("nothing is asked for: write some words")
        return cleaned

    @field_validator("since", "until")
    @classmethod
    def _zoned(cls, moment: datetime | None) -> datetime | None:
        """A time without a zone is UTC."""
        return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


class Moment(Record):
    """A stretch of one media that answers, and why; a line of `search --json`."""

    media_id: str
    source: str
    start: float
    """Seconds from the start of the media."""
    end: float
    score: float
    """Sum over the kinds that found it of 1 / (60 + rank)."""
    kind: Kind
    """The one that found it best."""
    why: str
    thumbnail: str | None
    """URI of its picture, with a media fragment; None where the media has no storyboard."""

    def line(self) -> str:
        """The moment as one line of JSON."""
        return json_bytes(self).decode()
