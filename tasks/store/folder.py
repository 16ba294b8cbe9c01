"""A store in a folder: atomic renames, and conditional commits under a file lock.

No link below the root is followed: whoever may write into the folder would read, overwrite or remove through it what
the user of the store may.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.core.errors import StoreConflict, StoreUnavailable
from tasks.store import Guarantee, Stored, link_seconds
from tasks.store.workspace import disk, scratch_file, workspace

_WORK = ".work"
_LOCKS = ".locks"
_OURS = frozenset({_WORK, _LOCKS})
_ELSEWHERE = "choose another store with --store or REELFLOW_STORE"


class FolderStore:
    guarantee: Guarantee = "atomic"

    def __init__(self, root: str) -> None:
        path = unquote(urlsplit(root).path) if root.startswith("file://") else root
        self._folder = Path(path).expanduser().resolve()
        self.root = self._folder.as_uri()
        self.address = self.root

    def exists(self) -> bool:
        return self._folder.is_dir()

    def check(self) -> Guarantee:
        if not self._folder.exists():
            nearest = next(parent for parent in self._folder.parents if parent.exists())
            with disk(nearest, _ELSEWHERE), tempfile.TemporaryDirectory(prefix=".reelflow-", dir=nearest) as tried:
                return FolderStore(tried).check()
        probe = f".probe-{uuid.uuid4().hex}"
        self.commit(probe, b"reelflow", None)
        found = self.read(probe)
        self.delete(probe)
        if found is None or found[0] != b"reelflow":
            raise StoreUnavailable(f"What is written to {self.root} is not read back; {_ELSEWHERE}.")
        return self.guarantee

    def uri(self, path: str) -> str:
        return self._path(path).as_uri()

    def read(self, path: str) -> tuple[bytes, str] | None:
        found = self._path(path)
        with disk(self._folder, _ELSEWHERE):
            try:
                data = found.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return data, _tag(data)

    def size(self, path: str) -> int | None:
        try:
            return self._path(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        with scratch_file(self._path(_WORK), _ELSEWHERE) as temporary:
            temporary.write_bytes(data)
            self.put(path, temporary)

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        with self._lock(path):
            current = self.read(path)
            if current and current[0] == data:
                return
            if (current[1] if current else None) != expected:
                raise StoreConflict(f"{self.uri(path)} was written by another run meanwhile; it is read again.")
            self.write(path, data)

    def put(
        self, path: str, local: Path, version: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        if metadata is not None:
            self.write(_beside(path), json.dumps(dict(metadata)).encode())
        target = self._path(path)
        with disk(self._folder, _ELSEWHERE):
            target.parent.mkdir(parents=True, exist_ok=True)
            with local.open("rb") as file:
                os.fsync(file.fileno())
            local.replace(target)

    def metadata(self, path: str) -> dict[str, Any] | None:
        if self.size(path) is None:
            return None
        found = self.read(_beside(path))
        try:
            values = json.loads(found[0]) if found else {}
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}

    def local(self, path: str, version: str | None = None) -> Path:
        found = self._path(path)
        if not found.is_file():
            raise StoreUnavailable(
                f"{self.uri(path)} is missing from the store; run the same command again to make it again."
            )
        return found

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with workspace(self._path(_WORK), _ELSEWHERE) as folder:
            yield folder

    def scan(self, prefix: str) -> Iterator[Stored]:
        base = self._path(prefix)
        start = f"{base.relative_to(self._folder).as_posix()}/" if base != self._folder else ""
        yield from _walk(base, start)

    def list(self, prefix: str) -> Iterator[str]:
        return (found.path for found in self.scan(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        base = self._path(prefix)
        return (entry.name for entry in _entries(base, base == self._folder) if entry.is_dir(follow_symlinks=False))

    def delete(self, path: str) -> None:
        with disk(self._folder, _ELSEWHERE), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._path(path).unlink()

    def link(self, path: str, seconds: int = 900) -> str:
        link_seconds(seconds)
        return self.uri(path)

    def _path(self, path: str) -> Path:
        found = Path(os.path.normpath(self._folder / path))
        if not found.is_relative_to(self._folder):
            raise StoreUnavailable(f"{path!r} lies outside the store {self.root}.")
        if os.path.realpath(found) != str(found):
            raise StoreUnavailable(
                f"{path!r} leads through a link in the store {self.root}, which is not followed; replace the link by "
                "what it leads to, or remove it."
            )
        return found

    @contextmanager
    def _lock(self, path: str) -> Iterator[None]:
        with disk(self._folder, _ELSEWHERE):
            file = self._path(f"{_LOCKS}/{hashlib.sha256(path.encode()).hexdigest()[:2]}")
            file.parent.mkdir(parents=True, exist_ok=True)
            held = file.open("a")
        with held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _beside(path: str) -> str:
    return f"{path}.json"


def _walk(folder: Path, start: str) -> Iterator[Stored]:
    """Files below a folder in the order of their paths, one folder's names in memory for each level."""
    for entry in _entries(folder, not start):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{start}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield Stored(start + entry.name, status.st_size, status.st_mtime)


def _entries(folder: Path, is_root: bool) -> list[os.DirEntry[str]]:
    """What lies directly in a folder, in the order of paths; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not is_root or e.name not in _OURS), key=_order)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _order(entry: os.DirEntry[str]) -> bytes:
    """As a bucket sorts: by the bytes of whole paths, where a folder's name is followed by a slash."""
    return os.fsencode(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
