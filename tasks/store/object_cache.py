"""Objects of a bucket as files on this host, bounded in size, shared by its processes.

    {cache}/objects/ab/{digest of address and version}{suffix}   mtime is the last use
    {cache}/objects/ab/{digest of address}.tag                   the ETag under which an object is held

A version is whatever tells one content of an address from another: an ETag, or a name for content that never changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from tasks.store.workspace import disk, workspace

KEEP_S = 3600.0
"""A file used within this time stays, even where the cache is over its bound: a task may be about to open it."""
TOUCH_S = 60.0
_ELSEWHERE = "set REELFLOW_CACHE_DIR to a folder on another"


class ObjectCache:
    def __init__(self, cache: Path, max_bytes: int) -> None:
        self._folder = cache / "objects"
        self._work = cache / "work"
        self._max_bytes = max_bytes
        self._uncounted = max_bytes
        """Bytes added since the last look at the whole; enough to look at the first addition."""

    def find(self, uri: str, version: str) -> Path | None:
        """The file, marked as used now, or None."""
        path = self._file(uri, version)
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > TOUCH_S:
                os.utime(path)
            return path
        return None

    def add(self, uri: str, version: str, chunks: Iterable[bytes]) -> Path:
        """Writes a stream; whole and durable, or not there at all."""
        with workspace(self._work, _ELSEWHERE) as work:
            part = work / "object"
            with part.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            return self.adopt(uri, version, part)

    def adopt(self, uri: str, version: str, file: Path) -> Path:
        """Takes a file over from the cache's own disk."""
        path = self._file(uri, version)
        with disk(self._folder, _ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                self._uncounted += os.fstat(opened.fileno()).st_size
            os.utime(file)
            file.replace(path)
        if self._uncounted > self._max_bytes // 20:
            self._uncounted = 0
            self.evict()
        return path

    def tag(self, uri: str) -> str | None:
        """The version under which an address was last added with `remember`."""
        try:
            return self._tag_file(uri).read_text()
        except FileNotFoundError:
            return None

    def remember(self, uri: str, version: str) -> None:
        path = self._tag_file(uri)
        with workspace(self._work, _ELSEWHERE) as work, disk(self._folder, _ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            (work / "tag").write_text(version)
            (work / "tag").replace(path)

    def evict(self) -> None:
        """Removes the files used longest ago until the bound is kept, sparing those used in the last KEEP_S."""
        with disk(self._folder, _ELSEWHERE):
            self._folder.mkdir(parents=True, exist_ok=True)
            guard = (self._folder / "evict.lock").open("a")
        with guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            files, total = [], 0
            for path in self._folder.glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
                    total += status.st_size
            for used, size, path in sorted(files):
                if total <= self._max_bytes or time.time() - used < KEEP_S:
                    return
                path.unlink(missing_ok=True)
                total -= size

    def _file(self, uri: str, version: str) -> Path:
        name = hashlib.sha256(f"{uri} {version}".encode()).hexdigest()
        return self._folder / name[:2] / (name + Path(uri).suffix[:16])

    def _tag_file(self, uri: str) -> Path:
        name = hashlib.sha256(uri.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.tag"
