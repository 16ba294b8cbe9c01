"""The store: a root URI under which every artifact, result and table lies.

One interface, one file per implementation: `folder.py` (`file://`, a path) and `s3.py` (`s3://`).
Paths inside a store are relative, with `/`; writers see whole objects or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from tasks.core.errors import StoreUnavailable


class Store(Protocol):
    root: str
    """Canonical root URI without a trailing slash."""

    def uri(self, path: str) -> str:
        """Full URI of an object or folder."""

    def read(self, path: str) -> tuple[bytes, str] | None:
        """(content, tag), or None where there is no such object. The tag changes whenever the content does."""

    def size(self, path: str) -> int | None:
        """Bytes of an object, or None where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Replaces an object whole."""

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        """Writes an object only if its tag is still `expected` (None: only if it does not exist).

        Raises StoreConflict when someone else was first.
        """

    def put(self, path: str, local: Path) -> None:
        """Stores a file whole. May move it: `local` is gone afterwards."""

    def local(self, path: str) -> Path:
        """A local file with the object's content, not to be changed. Raises StoreUnavailable if there is none."""

    def workspace(self) -> AbstractContextManager[Path]:
        """A temporary local folder from which `put` is cheap, removed at exit."""

    def list(self, prefix: str) -> Iterator[str]:
        """Paths of the objects under a prefix, sorted."""

    def delete(self, path: str) -> None:
        """Removes an object; no error where there is none."""


@lru_cache(maxsize=16)
def open_store(root: str) -> Store:
    """The store at a root URI or path. Opening creates nothing."""
    if root.startswith("s3://"):
        from tasks.store.s3 import S3Store

        return S3Store(root)
    if "://" in root and not root.startswith("file://"):
        raise StoreUnavailable(
            f"The store {root!r} is neither a folder, file:// nor s3://; set --store or REELFLOW_STORE."
        )
    from tasks.store.folder import FolderStore

    return FolderStore(root)
