"""A store in a folder: atomic renames, and conditional commits under a file lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.core.errors import StoreConflict, StoreUnavailable

_WORK = ".work"
_LOCKS = ".locks"


class FolderStore:
    def __init__(self, root: str) -> None:
        path = unquote(urlsplit(root).path) if root.startswith("file://") else root
        self._folder = Path(path).expanduser().resolve()
        self.root = self._folder.as_uri()

    def uri(self, path: str) -> str:
        return self._path(path).as_uri()

    def read(self, path: str) -> tuple[bytes, str] | None:
        try:
            data = self._path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data, _tag(data)

    def size(self, path: str) -> int | None:
        try:
            return self._path(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        with self.workspace() as work:
            temporary = work / "object"
            temporary.write_bytes(data)
            self.put(path, temporary)

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        with self._lock(path):
            current = self.read(path)
            if (current[1] if current else None) != expected:
                raise StoreConflict(f"{self.uri(path)} was written by another run meanwhile; it is read again.")
            self.write(path, data)

    def put(self, path: str, local: Path) -> None:
        target = self._path(path)
        with self._explain():
            target.parent.mkdir(parents=True, exist_ok=True)
            with local.open("rb") as file:
                os.fsync(file.fileno())
            local.replace(target)

    def local(self, path: str) -> Path:
        found = self._path(path)
        if not found.is_file():
            raise StoreUnavailable(
                f"{self.uri(path)} is missing from the store; run the same command again to make it again."
            )
        return found

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with self._explain():
            parent = self._folder / _WORK
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def list(self, prefix: str) -> Iterator[str]:
        base = self._path(prefix)
        for file in sorted(base.rglob("*")) if base.is_dir() else ():
            if file.is_file():
                yield file.relative_to(self._folder).as_posix()

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(path).unlink()

    def _path(self, path: str) -> Path:
        found = Path(os.path.normpath(self._folder / path))
        if not found.is_relative_to(self._folder):
            raise StoreUnavailable(f"{path!r} lies outside the store {self.root}.")
        return found

    @contextmanager
    def _lock(self, path: str) -> Iterator[None]:
        with self._explain():
            folder = self._folder / _LOCKS
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / hashlib.sha256(path.encode()).hexdigest()[:2]).open("a")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"The store {self.root} cannot be written ({error.strerror}); "
                "choose another with --store or REELFLOW_STORE, or free space and mend its permissions."
            ) from error


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
