"""The store: a root URI under which every artifact, result and table lies.

One interface, one file per implementation: `folder.py` (`file://`, a path) and `s3.py` (`s3://`, or a Prefect block).
Paths inside a store are relative, with `/`; writers see whole objects or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from tasks.core.errors import StoreUnavailable

BLOCK = "s3-bucket/"
"""What the address of a store in a saved Prefect block begins with; a folder of that name is `./s3-bucket/...`."""

MOST_LINK_S = 3600

_OWN = re.compile(
    r"media/[0-9a-f]{32}/|tables/[a-z]+/media_id(?:=|%3D)|quarantine/[0-9a-f]{32}\.json$|sources/[0-9a-f]{32}\.json$"
    r"|rooms/[0-9a-f]{32}\.json$|dead_letters/[0-9a-f]{32}\.json$|watchers/[0-9a-f]{32}\.json$"
    r"|text_banks/[^/]+/[0-9a-f]+-[0-9a-f]+\.npz$|index/(\w+\.lance/|index\.json$|build\.lock$|\.[0-9a-f]{32}$)"
    r"|(tables/[a-z]+|tracking)/camera(?:=|%3D)|alerts/[a-z]+/|reports/[0-9a-f]{32}/"
    r"|\.work/|\.locks/|\.reelflow/|\.probe-"
)
"""Paths in a store at which we write: nothing else of what lies under its root is ours."""

Guarantee = Literal["atomic", "last-writer"]
"""What `commit` keeps when two write at the same time.

atomic       the store compares and writes in one step: of any number of writers one wins, the others get StoreConflict
last-writer  the store ignores conditions. Writers on one host still take turns. Between hosts each reads, writes, waits
             and reads again: whoever was overwritten within that time gets StoreConflict, whoever is overwritten later
             does not learn of it. An object is whole at any time, and the last one written stays.
"""


class Stored(NamedTuple):
    """An object as a listing shows it."""

    path: str
    bytes: int
    modified: float
    """Unix time."""


class Store(Protocol):
    root: str
    """Canonical root URI without a trailing slash, as it stands in results."""

    address: str
    """What another process opens it by: the root, or the name of a block that holds its credentials."""

    def exists(self) -> bool:
        """Is there such a folder, or anything under such a prefix? Raises StoreUnavailable where none can be."""

    @property
    def guarantee(self) -> Guarantee:
        """How strong `commit` is; found out once per host by trying."""

    def check(self) -> Guarantee:
        """Does everything that a store must allow, on an object that it removes again; the guarantee, found out anew.

        A store that does not exist yet is not made by it. Raises StoreUnavailable with what to do.
        """

    def uri(self, path: str) -> str:
        """Full URI of an object or folder."""

    def read(self, path: str) -> tuple[bytes, str] | None:
        """(content, tag), or None where there is no such object. The tag changes whenever the content does."""

    def size(self, path: str) -> int | None:
        """Bytes of an object, or None where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Replaces an object whole."""

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        """Writes an object only if its tag is still `expected` (None: only if it does not exist); see Guarantee.

        Raises StoreConflict when someone else was first. Who finds exactly its own data there has won: the answer to
        its first attempt was lost. So two writers that must not both win need data that differs.
        """

    def put(
        self, path: str, local: Path, version: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Stores a file whole and takes it away. With a version, this host keeps it for `local`.

        `metadata` goes with the object: in a folder as `PATH.json` beside it, in a bucket as user metadata, which is
        text, with hyphens for underscores.
        """

    def metadata(self, path: str) -> dict[str, Any] | None:
        """What was put with an object, of a bucket as text; empty where nothing was, None where there is no object."""

    def local(self, path: str, version: str | None = None) -> Path:
        """A local file with the object's content, not to be changed. Raises StoreUnavailable if there is none.

        `version` names content that never changes: what this host holds of it is given without asking the store.
        """

    def workspace(self) -> AbstractContextManager[Path]:
        """A temporary local folder from which `put` is cheap, removed at exit.

        A disk that fills up in the block raises StoreUnavailable, whatever the block made of it.
        """

    def scan(self, prefix: str) -> Iterator[Stored]:
        """The objects in and below a folder, one at a time, so that any number of them fits.

        Sorted by path, as S3 promises; SeaweedFS goes folder by folder, so that `a/x` comes before `a-x`.
        """

    def list(self, prefix: str) -> Iterator[str]:
        """Paths of `scan`."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders directly in a folder, in order, whatever lies in them: a bucket gives 1000 a request."""

    def delete(self, path: str) -> None:
        """Removes an object; no error where there is none."""

    def link(self, path: str, seconds: int = 900) -> str:
        """A URL that whoever has it can read the object by, for at most an hour (folders: a file URI).

        It carries a signature: give it to a person, never to a log or a result.
        """


@lru_cache(maxsize=16)
def open_store(address: str) -> Store:
    """The store at a root URI, a path or `s3-bucket/NAME`. Opening creates nothing."""
    if address.startswith(("s3://", BLOCK)):
        from tasks.store.s3 import open_bucket

        return open_bucket(address)
    if "://" in address and not address.startswith("file://"):
        scheme = address.partition("://")[0]
        raise StoreUnavailable(
            f"The store {scheme}://... is neither a folder, file:// nor s3://; set --store or REELFLOW_STORE."
        )
    from tasks.store.folder import FolderStore

    return FolderStore(address)


def open_existing(address: str) -> Store:
    """The store at an address, to be read. Raises StoreUnavailable where there is none."""
    store = open_store(address)
    if not store.exists():
        raise StoreUnavailable(
            f"There is no store at {store.root}; is it spelled right? Name another with --store or REELFLOW_STORE, or "
            "make it: python -m flows analyze FILE."
        )
    return store


def own_objects(store: Store) -> Callable[[str], bool]:
    """Tells the URIs of what we wrote into this store, which is never a source, from others that lie beside it."""
    root = f"{store.root}/"
    return lambda uri: uri.startswith(root) and _OWN.match(uri, len(root)) is not None


def link_seconds(seconds: int) -> int:
    """Raises ValueError for a link that would be open for too long."""
    if not 1 <= seconds <= MOST_LINK_S:
        raise ValueError(f"A link is open for 1 to {MOST_LINK_S} seconds, not {seconds}.")
    return seconds
