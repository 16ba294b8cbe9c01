"""What lies under a bucket prefix or in a folder: listed in pages, filtered, one object in memory at a time."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.errors import SourceNotFound, UnsupportedSource
from tasks.core.fetch import local_path
from tasks.core.remote import list_s3
from tasks.core.s3 import S3Options
from tasks.core.source_names import display_source


class Listed(BaseModel):
    """An object that may be media: what it is called, and which version of it was seen."""

    model_config = ConfigDict(frozen=True)

    source: str
    """Path, file:// or s3://: what `fetch` takes."""
    name: str
    """Path below the prefix."""
    bytes: int
    modified: float
    """Unix time."""
    version: str
    """Equal versions have equal content: see Fetched.version."""


class Selection(BaseModel):
    """Which objects of a prefix are meant; all of them unless something is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suffixes: list[str] = Field(
        [], max_length=100, description="Endings of names, upper or lower case, for example .mp4"
    )
    glob: str | None = Field(
        None, max_length=1000, description="Pattern that the path below the prefix must match; * also matches /"
    )
    min_bytes: int = Field(0, ge=0, description="Smallest size, bytes")
    max_bytes: int | None = Field(None, ge=0, description="Largest size, bytes")
    modified_since: datetime | None = Field(None, description="Only what was written at this time or later (UTC)")

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Selection:
        if self.max_bytes is not None and self.max_bytes < self.min_bytes:
            raise ValueError("max_bytes is less than min_bytes")
        return self

    def takes(self, found: Listed) -> bool:
        """Is this object meant?"""
        name = found.name.lower()
        return (
            (not self.suffixes or name.endswith(tuple(s.lower() for s in self.suffixes)))
            and (self.glob is None or fnmatch.fnmatchcase(found.name, self.glob))
            and found.bytes >= self.min_bytes
            and (self.max_bytes is None or found.bytes <= self.max_bytes)
            and (self.modified_since is None or found.modified >= self.modified_since.timestamp())
        )


def list_media(prefix: str, selection: Selection, options: S3Options, leave_out: str | None = None) -> Iterator[Listed]:
    """Objects under `prefix` (s3://bucket/prefix, file:// or a folder) in the order of their names.

    `leave_out` is the root URI of a store: what lies in it is our own. Markers of folders (`name/`) are no objects.
    Raises SourceNotFound, PermissionDenied, UnsupportedSource; NetworkError, Throttled.
    """
    found = list_s3(prefix, options) if prefix.startswith("s3://") else _list_folder(prefix)
    ours = leave_out.rstrip("/") + "/" if leave_out else None
    for source, name, size, modified, version in found:
        listed = Listed(source=source, name=name, bytes=size, modified=modified, version=version)
        if not (ours and _uri(source).startswith(ours)) and selection.takes(listed):
            yield listed


def _list_folder(prefix: str) -> Iterator[tuple[str, str, int, float, str]]:
    if "://" in prefix and not prefix.startswith("file://"):
        raise UnsupportedSource(f"{display_source(prefix)}: a backfill reads a folder, file:// or s3://bucket/prefix")
    folder = Path(local_path(prefix) if prefix.startswith("file://") else prefix).expanduser().resolve()
    if not folder.is_dir():
        raise SourceNotFound(f"{display_source(prefix)}: there is no such folder; to analyse one file, use analyze")
    for entry in _walk(folder):
        state = entry.stat()
        yield (
            _named(entry.path),
            os.fsencode(os.path.relpath(entry.path, folder)).decode(errors="replace"),
            state.st_size,
            state.st_mtime,
            f"{state.st_size}-{state.st_mtime_ns}",
        )


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Regular files below a folder, links to folders not followed; one folder's names in memory for each level."""
    try:
        with os.scandir(folder) as found:
            entries: list[Any] = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UnsupportedSource(
            f"{display_source(str(folder))}: the folder cannot be read ({error.strerror})"
        ) from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif entry.is_file():
            yield entry


def _named(path: str) -> str:
    """The path; as a file:// URI where its bytes are no UTF-8 and would not survive a parameter."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _uri(source: str) -> str:
    return source if "://" in source else Path(source).as_uri()
