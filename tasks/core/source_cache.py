"""The sources that this host has read: files by content, and what was known about each source when it was read.

    {root}/sources/ab/{media_id}      content of remote sources, never touched after it was written
    {root}/sources/ab/{media_id}.seen which file it was when its digest was last checked; mtime is the last use
    {root}/sources/tmp/*.part         downloads in progress, each locked by the process that writes it
    {root}/index/ab/{key}.json        per source: digest, size, and the validator (ETag, mtime ...) that it held for
    {root}/locks/ab/{key}             one reader per source; the others wait and find it in the index

All processes of a host share it. Locks are flock(2): they die with their process. Content is what its name says: where
the file is not the one that was checked (another inode, size, mtime or ctime, which no user can set), its digest is
computed again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tasks.core.errors import LimitExceeded, StoreUnavailable

KEEP_S = 600.0
"""A file used within this time stays, even where the cache is over its bound: its next task may be about to open it."""
SEEN = ".seen"
STALE_S = 3600.0
"""Unlocked leftovers of killed processes go after this time."""


@dataclass(frozen=True)
class Entry:
    """What the index knows of one source. `validator` says for which version of it."""

    sha256: str
    bytes: int
    validator: dict[str, str] = field(default_factory=dict)

    @property
    def media_id(self) -> str:
        return self.sha256[:32]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep eviction away from a cached file while it is read; any other file is left alone.

    Raises FileNotFoundError where the file is gone already: fetch it again.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "evicted from the cache", str(path))
        yield


class SourceCache:
    """A bounded folder of sources.  Raises StoreUnavailable where it cannot be written or is full."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self.parts = root / "sources" / "tmp"
        with self._writing():
            for folder in (self.parts, root / "index", root / "locks"):
                folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, media_id: str) -> Path:
        return self.root / "sources" / media_id[:2] / media_id

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Alone on this host with one source."""
        path = self._file("locks", key)
        with self._writing():
            file = path.open("a")
        with file:
            os.utime(path)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def known(self, key: str) -> Entry | None:
        """What the index holds for this source, or None; a damaged entry counts as none."""
        try:
            return Entry(**json.loads(self._file("index", key, ".json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def remember(self, key: str, entry: Entry) -> None:
        path = self._file("index", key, ".json")
        with self._writing():
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(entry), file)
            Path(name).replace(path)

    def find(self, entry: Entry) -> Path | None:
        """The cached content of an entry, marked as used now; None where it was evicted or is not what it was."""
        path = self.path_of(entry.media_id)
        with suppress(FileNotFoundError), hold(path):
            if path.stat().st_size == entry.bytes and (_is_seen(path) or _digest(path)[:32] == entry.media_id):
                self._see(path)
                return path
        return None

    def add(self, chunks: Iterable[bytes], name: str, max_bytes: int, size: int | None = None) -> tuple[Path, str, int]:
        """Write a stream, hashing on the way; gives path, sha256 and size.  Whole and durable, or not there at all.

        Raises LimitExceeded beyond `max_bytes`; `size`, where it is known, makes room beforehand.
        """
        if size is not None:
            self._check_size(size, name, max_bytes)
        with self._writing():
            self._sweep()
            self.evict(size or 0)
            if size is not None and shutil.disk_usage(self.root).free < size:
                raise OSError(errno.ENOSPC, "no room for it")
            handle, part = tempfile.mkstemp(dir=self.parts, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    digest, written = hashlib.sha256(), 0
                    for chunk in chunks:
                        written += len(chunk)
                        self._check_size(written, name, max_bytes)
                        digest.update(chunk)
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                    path = self.path_of(digest.hexdigest()[:32])
                    path.parent.mkdir(exist_ok=True)
                    Path(part).replace(path)
                _sync_folder(path.parent)
                self._see(path)
            finally:
                Path(part).unlink(missing_ok=True)
            self.evict()
        return path, digest.hexdigest(), written

    def evict(self, coming_bytes: int = 0) -> None:
        """Remove the least recently used files until `coming_bytes` more fit, sparing what is held or was just used."""
        with (self.root / "evict.lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            files = []
            for path in (self.root / "sources").glob("??/*"):
                with suppress(FileNotFoundError):
                    if path.suffix != SEEN:
                        files.append((_used(path), path.stat().st_size, path))
                    elif not path.with_suffix("").exists():
                        path.unlink()
            total = sum(size for _, size, _ in files) + coming_bytes
            for _, size, path in sorted(files):
                if total <= self.max_bytes:
                    return
                if _remove_unused(path, KEEP_S):
                    total -= size

    def _see(self, path: Path) -> None:
        """Notes that this very file holds what its name says, and is used now."""
        seen, state = path.with_name(path.name + SEEN), _state(path)
        with self._writing():
            if _is_seen(path):
                os.utime(seen)
                return
            handle, name = tempfile.mkstemp(dir=self.parts, suffix=".part")
            with os.fdopen(handle, "w") as file:
                file.write(state)
            Path(name).replace(seen)

    def _sweep(self) -> None:
        for folder in (self.parts, *(self.root / "locks").iterdir()):
            for path in folder.iterdir():
                _remove_unused(path, STALE_S)

    def _check_size(self, size: int, name: str, max_bytes: int) -> None:
        if size > max_bytes:
            raise LimitExceeded(f"{name}: {size} bytes and more are beyond limits.max_bytes={max_bytes}")
        if size > self.max_bytes:
            raise LimitExceeded(
                f"{name}: {size} bytes and more do not fit into the source cache of {self.max_bytes} bytes; "
                f"raise REELFLOW_CACHE_BYTES for the cache in {self.root}"
            )

    def _file(self, kind: str, key: str, suffix: str = "") -> Path:
        path = self.root / kind / key[:2] / f"{key}{suffix}"
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreUnavailable(
                    f"the disk of the source cache {self.root} is full; free some space or set REELFLOW_CACHE_DIR"
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                raise StoreUnavailable(
                    f"the source cache {self.root} cannot be written ({error.strerror}); set REELFLOW_CACHE_DIR"
                ) from error
            raise


def _remove_unused(path: Path, age_s: float) -> bool:
    """Remove a file that nobody has locked and nobody used for `age_s`.  The lock makes a use and a removal exclude
    each other: a user touches the file under a shared lock."""
    try:
        if time.time() - _used(path) < age_s:
            return False
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - _used(path) < age_s:
                return False
            path.unlink()
            path.with_name(path.name + SEEN).unlink(missing_ok=True)
            return True
    except (FileNotFoundError, BlockingIOError):
        return False


def _used(path: Path) -> float:
    """Unix time of the last use."""
    found = path.stat().st_mtime
    with suppress(FileNotFoundError):
        found = max(found, path.with_name(path.name + SEEN).stat().st_mtime)
    return found


def _is_seen(path: Path) -> bool:
    """Is this the file whose digest was checked?"""
    try:
        return path.with_name(path.name + SEEN).read_text() == _state(path)
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
