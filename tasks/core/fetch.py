"""From a source's address to a local file and the digest of its content.

Local files are hashed where they are. Remote ones are streamed once into the host's cache. A source that has not
changed since (same size and mtime, same ETag) is not read again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tasks.core.errors import (
    EmptySource,
    LimitExceeded,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    StoreUnavailable,
    UnreadableSource,
    UnsupportedSource,
)
from tasks.core.options import LimitOptions
from tasks.core.remote import open_s3
from tasks.core.s3 import S3Options
from tasks.core.source_cache import Entry, SourceCache, hold
from tasks.core.source_names import display_source
from tasks.core.web import open_http

__all__ = ["Fetched", "display_source", "fetch", "hold", "is_unchanged"]

RACY_S = 2.0
"""A file changed twice within its clock's grain looks unchanged: younger files are not remembered."""
MOST_TRIED = 8
"""Files that are read to tell a failing disk from a damaged file on it."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Fetched:
    """A source on this host. `path` is the user's own file for local sources: never change or delete it."""

    path: Path
    media_id: str
    """First 32 hex digits of `sha256`."""
    sha256: str
    bytes: int
    source: str
    """As it may be shown: see display_source."""
    seconds: float
    cached: bool
    """The content was not read: the source is the version that was read before."""
    version: str
    """Tells the source's present content from an earlier one, as listings do: ETag, or size and time; may be empty."""
    local: bool = False
    """The path is the source itself: it may change while it is read."""


def fetch(
    source: str,
    cache_dir: Path,
    limits: LimitOptions,
    cache_bytes: int,
    *,
    allow_private_hosts: bool = False,
    timeout_s: float = 6 * 3600.0,
    s3: S3Options = S3Options(),  # noqa: B008
) -> Fetched:
    """Make `source` (path, file://, s3://, http(s)://) a local file, and say what its content is.

    Hold the path (`with hold(fetched.path):`) while it is read; until then it stays for at least 10 minutes.
    Raises SourceNotFound, PermissionDenied, UnreadableSource, UnsupportedSource, EmptySource, LimitExceeded;
    NetworkError, Throttled, SourceChanged; CredentialsRefused; StoreUnavailable where the cache cannot be used, or the
    disk of a local source fails at other files too.
    """
    started = time.monotonic()
    match = _SCHEME.match(source)
    scheme = match[1].lower() if match else ""
    cache = SourceCache(cache_dir, cache_bytes)
    shown = display_source(source)
    if scheme in ("", "file"):
        path, entry, cached = _fetch_local(local_path(source) if scheme else source, shown, cache, limits)
    elif scheme in ("s3", "http", "https"):
        deadline = started + timeout_s
        path, entry, cached = _fetch_remote(source, scheme, shown, cache, limits, allow_private_hosts, deadline, s3)
    else:
        raise UnsupportedSource(f"{shown}: {scheme}:// is not read; give a path, file://, s3:// or https://")
    return Fetched(
        path,
        entry.media_id,
        entry.sha256,
        entry.bytes,
        shown,
        time.monotonic() - started,
        cached,
        _version(entry),
        local=scheme in ("", "file"),
    )


def is_unchanged(fetched: Fetched) -> bool:
    """Does the path still hold the bytes that were read? The cache's copy of a remote source always does."""
    if not fetched.local:
        return True
    try:
        now = fetched.path.stat()
    except OSError:
        return False
    return f"{now.st_size}-{now.st_mtime_ns}" == fetched.version


def local_path(uri: str) -> str:
    """The path of a file:// URI. Raises UnsupportedSource where it names another host."""
    host, slash, path = uri[len("file://") :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise UnsupportedSource(f"{display_source(uri)}: write a local file as file:///absolute/path")
    return "/" + unquote(path, errors="surrogateescape")


def _fetch_local(text: str, shown: str, cache: SourceCache, limits: LimitOptions) -> tuple[Path, Entry, bool]:
    handle = _open_regular(text, shown)
    with os.fdopen(handle, "rb") as file:
        path = Path(text).resolve()
        before = os.fstat(file.fileno())
        _check_size(before.st_size, shown, limits)
        key = _key(f"file:{path}")
        inode = f"{before.st_dev}:{before.st_ino}"
        changed = f"{before.st_mtime_ns}", f"{before.st_ctime_ns}"
        validator = {"size": str(before.st_size), "mtime": changed[0], "ctime": changed[1], "inode": inode}
        known = cache.known(key)
        if known and known.validator == validator:
            return path, known, True
        try:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unread(path, shown, error) from error
        after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise SourceChanged(f"{shown}: it changed while it was read; it is tried again")
    entry = Entry(digest, before.st_size, validator)
    if time.time() - before.st_mtime > RACY_S:
        cache.remember(key, entry)
    return path, entry, False


def _unread(path: Path, shown: str, error: OSError) -> ReelflowError:
    """Whose fault is a failing read: the source's, where the disk does better at what lies beside it."""
    if error.errno != errno.EIO:
        return NetworkError(f"{shown}: reading it failed ({error.strerror}); it is tried again")
    if _disk_answers(path):
        return UnreadableSource(f"{shown}: the disk fails at it ({error.strerror}); put another copy in its place")
    return StoreUnavailable(
        f"{shown}: the disk fails at it and at what lies beside it ({error.strerror}); check the disk and its mount"
    )


def _disk_answers(path: Path) -> bool:
    """Can the folder be listed, and one of the files beside this one be read? Where there is none, its disk is fine."""
    try:
        beside = [other for other in path.parent.iterdir() if other != path and other.is_file()]
    except OSError:
        return False
    return not beside or any(_is_readable(other) for other in beside[:MOST_TRIED])


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.errno != errno.EIO
    return True


def _open_regular(text: str, shown: str) -> int:
    """A descriptor of a regular file.  O_NONBLOCK: a fifo must not keep us waiting."""
    try:
        handle = os.open(text, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFound(f"{shown}: there is no such file") from None
    except PermissionError:
        raise PermissionDenied(f"{shown}: this user may not read it") from None
    except ValueError:
        raise SourceNotFound(f"{shown}: a file name cannot hold a NUL character") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SourceNotFound(f"{shown}: no file can have so long a name") from None
        raise UnsupportedSource(f"{shown}: it cannot be opened ({error.strerror})") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise UnsupportedSource(f"{shown}: it is a folder; name a file, or backfill the folder")
    raise UnsupportedSource(f"{shown}: it is a device or pipe, not a file")


def _fetch_remote(
    source: str,
    scheme: str,
    shown: str,
    cache: SourceCache,
    limits: LimitOptions,
    allow_private_hosts: bool,
    deadline: float,
    s3: S3Options,
) -> tuple[Path, Entry, bool]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    key = _key(f"{endpoint}:{source}" if scheme == "s3" else source)
    with cache.locked(key):
        known = cache.known(key)
        held = cache.find(known) if known else None
        validator = known.validator if known and held else {}
        if scheme == "s3":
            bucket, _, name = source[len("s3://") :].partition("/")
            if not bucket or not name:
                raise UnsupportedSource(f"{shown}: it names no object; write s3://bucket/key, or backfill the prefix")
            opened = open_s3(bucket, name, validator, deadline=deadline, options=s3)
        else:
            opened = open_http(source, validator, allow_private_hosts=allow_private_hosts, deadline=deadline)
        with opened as remote:
            if remote.chunks is None and known and held:
                _check_size(known.bytes, shown, limits)
                return held, known, True
            if remote.size is not None:
                _check_size(remote.size, shown, limits)
            path, sha256, size = cache.add(remote.chunks or (), shown, limits.max_bytes, remote.size)
        _check_size(size, shown, limits)
        entry = Entry(sha256, size, remote.validator)
        cache.remember(key, entry)
        return path, entry, False


def _version(entry: Entry) -> str:
    local = "{size}-{mtime}".format_map(entry.validator) if "mtime" in entry.validator else ""
    return local or entry.validator.get("etag", "")


def _check_size(size: int, shown: str, limits: LimitOptions) -> None:
    if size == 0:
        raise EmptySource(f"{shown}: it has no content; upload it again")
    if size > limits.max_bytes:
        raise LimitExceeded(f"{shown}: {size} bytes are more than limits.max_bytes={limits.max_bytes}")


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
