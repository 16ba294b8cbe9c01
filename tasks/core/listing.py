"""What lies under a bucket prefix or in a folder: listed in pages, filtered, one object in memory at a time."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.errors import PermanentError, PermissionDenied, SourceNotFound, UnsupportedSource
from tasks.core.fetch import local_path
from tasks.core.live.names import is_bookkeeping
from tasks.core.remote import folders_s3, head_s3, list_s3
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


Skipped = Callable[[str, PermanentError], None]
"""Called with the source and the reason of what cannot be listed."""


def list_media(
    prefix: str,
    selection: Selection,
    options: S3Options,
    *,
    leave_out: Callable[[str], bool] | None = None,
    skipped: Skipped = lambda source, reason: None,
) -> Iterator[Listed]:
    """Objects under `prefix` (s3://bucket/prefix, file:// or a folder) in the order of their names.

    `leave_out` knows the URIs of our own objects; what ingest writes beside its windows is none either. Markers of
    folders (`name/`, empty) are no objects. Whatever stands below the prefix and cannot be listed is `skipped`: a
    folder that may not be read, a link that leads to itself, nowhere or out of the prefix, a file that vanishes.
    Raises SourceNotFound, PermissionDenied, UnsupportedSource for the prefix itself; NetworkError, Throttled.
    """
    found = list_s3(prefix, options) if prefix.startswith("s3://") else _list_folder(prefix, skipped)
    for source, name, size, modified, version in found:
        listed = Listed(source=source, name=name, bytes=size, modified=modified, version=version)
        if not is_bookkeeping(name) and not (leave_out and leave_out(_uri(source))) and selection.takes(listed):
            yield listed


def list_folders(prefix: str, options: S3Options) -> list[str]:
    """Names of the folders directly below `prefix`, in order. Raises what list_media raises for the prefix itself."""
    if prefix.startswith("s3://"):
        return list(folders_s3(prefix, options))
    return [entry.name for entry in _top(prefix)[1] if entry.is_dir(follow_symlinks=False)]


def find_listed(prefix: str, key: str, options: S3Options) -> Listed | None:
    """One object of a bucket as a listing of `s3://bucket/prefix` would give it; None where it is gone.

    Raises PermissionDenied, UnsupportedSource, CredentialsRefused; NetworkError, Throttled.
    """
    found = head_s3(prefix, key, options)
    if found is None:
        return None
    source, name, size, modified, version = found
    return Listed(source=source, name=name, bytes=size, modified=modified, version=version)


def _list_folder(prefix: str, skipped: Skipped) -> Iterator[tuple[str, str, int, float, str]]:
    folder, top = _top(prefix)
    for entry in _walk(folder, top, skipped):
        try:
            state = entry.stat()
        except OSError as error:
            skipped(_named(entry.path), _reason(entry, error))
            continue
        yield (
            _named(entry.path),
            os.fsencode(os.path.relpath(entry.path, folder)).decode(errors="replace"),
            state.st_size,
            state.st_mtime,
            f"{state.st_size}-{state.st_mtime_ns}",
        )


def _top(prefix: str) -> tuple[Path, list[os.DirEntry[str]]]:
    """The folder that a prefix names, and what is directly in it."""
    if "://" in prefix and not prefix.startswith("file://"):
        raise UnsupportedSource(f"{display_source(prefix)}: a backfill reads a folder, file:// or s3://bucket/prefix")
    shown = display_source(prefix)
    try:
        folder = Path(local_path(prefix) if prefix.startswith("file://") else prefix).expanduser().resolve()
        if not folder.is_dir():
            raise SourceNotFound(f"{shown}: there is no such folder; to analyse one file, use analyze")
        return folder, _entries(folder)
    except PermissionError:
        raise PermissionDenied(f"{shown}: this user may not read the folder") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceNotFound(f"{shown}: the folder cannot be read ({reason})") from None


def _walk(folder: Path, top: list[os.DirEntry[str]], skipped: Skipped) -> Iterator[os.DirEntry[str]]:
    """Regular files below a folder and links to them; links to folders and out of the folder are not followed.

    One folder's names are in memory for each level.
    """
    levels = [iter(top)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                levels.append(iter(_entries(entry.path)))
            elif entry.is_symlink() and not _leads_within(entry, folder):
                os.stat(entry.path)  # noqa: PTH116 - says why a link leads nowhere
                raise UnsupportedSource(
                    f"{display_source(entry.path)}: a link out of this folder is not followed; "
                    "give what it leads to itself"
                )
            elif entry.is_file():
                yield entry
        except (OSError, UnsupportedSource) as error:
            skipped(_named(entry.path), _reason(entry, error))


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _leads_within(entry: os.DirEntry[str], folder: Path) -> bool:
    """Does a link lead to a file or folder that is listed anyway?"""
    target = Path(os.path.realpath(entry.path))
    return target.is_relative_to(folder) and (target.is_dir() or target.is_file())


def _reason(entry: os.DirEntry[str], error: OSError | UnsupportedSource) -> PermanentError:
    if isinstance(error, UnsupportedSource):
        return error
    shown = display_source(entry.path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        gone = "the link leads nowhere" if entry.is_symlink() else "it vanished while the folder was listed"
        return SourceNotFound(f"{shown}: {gone}")
    if isinstance(error, PermissionError):
        return PermissionDenied(f"{shown}: this user may not read it; it is left out")
    return UnsupportedSource(f"{shown}: it cannot be read ({error.strerror}); it is left out")


def _named(path: str) -> str:
    """The path; as a file:// URI where its bytes are no UTF-8 and would not survive a parameter."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _uri(source: str) -> str:
    return source if "://" in source else Path(source).as_uri()
