"""Searching a store: which tables it has, where its index lies, and what the moments of an answer look like.

    searcher = Searcher(open_store(address))
    moments = searcher.search(Query(text="red circle", model=digest), embed)

Without an index the Parquet tables are searched; `build_index` makes one that is opened at once. Both give the same
answers. The index is disposable: delete its folder and build it again.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from tasks.core.errors import StoreUnavailable
from tasks.core.publish.storyboard import picture_at
from tasks.core.search import Embed, Moment, Query, search
from tasks.core.search.build import Built, build
from tasks.core.search.corpus import Corpus
from tasks.core.search.lance import LanceCorpus, open_index
from tasks.core.search.lance_tables import read_head
from tasks.core.search.parts import PartsCorpus
from tasks.core.search.rows import TABLES
from tasks.records.results import VIEWS, result_path, table_path
from tasks.settings import settings
from tasks.store import Store
from tasks.store.workspace import disk

FRESH_S: Final = 10.0
"""How long a listing of the tables, and what is known of a media, is taken for true."""

AT_ONCE: Final = 16
"""Requests to a store at the same time."""

_MOST_KNOWN: Final = 2000
_PART: Final = re.compile(r"tables/[a-z]+/media_id=([0-9a-f]{32})/part\.parquet")


@dataclass(frozen=True)
class IndexState:
    """How far an index is behind its store, in media."""

    built: str
    media: int
    new: int
    changed: int
    gone: int

    @property
    def behind(self) -> int:
        return self.new + self.changed + self.gone


class _Known(NamedTuple):
    """What the store said of a media."""

    asked: float
    committed: bool
    track: str | None
    """Its storyboard's."""


class Searcher:
    """Answers questions about one store; keeps what it has read, and sees what others add. For any thread.

    `indexed`: True needs an index, False looks at the tables, None takes an index where there is one.
    """

    def __init__(self, store: Store, *, indexed: bool | None = None) -> None:
        self._store = store
        self._indexed = indexed
        self._lock = threading.RLock()
        self._parts = PartsCorpus(functools.partial(read_part, store))
        self._listed = -math.inf
        self._index: LanceCorpus | None = None
        self._known: dict[str, _Known] = {}

    def search(self, query: Query, embed: Embed | None = None) -> list[Moment]:
        """The moments that answer a query, best first; see tasks.core.search.search."""
        index = self._current_index()
        if index is not None:
            return search(query, index, embed, committed=self._committed, pictures=self._pictures)
        with self._lock:
            return search(query, self._current_tables(), embed, committed=self._committed, pictures=self._pictures)

    def corpus(self) -> Corpus:
        """What is searched: its media, and the classes that can be asked for."""
        with self._lock:
            return self._current_index() or self._current_tables()

    def _current_index(self) -> LanceCorpus | None:
        """The newest state of the index. Raises StoreUnavailable where one is needed and there is none."""
        if self._indexed is False:
            return None
        folder = index_folder(self._store)
        with self._lock:
            head = read_head(folder)
            if head is None:
                self._index = None
            elif self._index is None or self._index.head != head:
                self._index = open_index(folder)
            found = self._index
        if found is None and self._indexed:
            raise StoreUnavailable(
                f"{self._store.root} has no index; build one with `python -m flows build-index --store ...`."
            )
        return found

    def _current_tables(self) -> PartsCorpus:
        if time.monotonic() - self._listed > FRESH_S:
            self._parts.refresh(list_parts(self._store))
            self._listed = time.monotonic()
        return self._parts

    def _committed(self, media_ids: Sequence[str]) -> set[str]:
        self._ask(media_ids)
        return {media_id for media_id in media_ids if self._known[media_id].committed}

    def _pictures(self, places: Sequence[tuple[str, float]]) -> list[str | None]:
        self._ask([media_id for media_id, _ in places])
        return [self._picture(media_id, time_s) for media_id, time_s in places]

    def _picture(self, media_id: str, time_s: float) -> str | None:
        track = self._known[media_id].track
        place = picture_at(track, time_s) if track else None
        return f"{self._store.uri(f'media/{media_id}')}/{place}" if place else None

    def _ask(self, media_ids: Sequence[str]) -> None:
        """Makes what is known of these media fresh."""
        now = time.monotonic()
        stale = [m for m in set(media_ids) if m not in self._known or now - self._known[m].asked > FRESH_S]
        if len(self._known) > _MOST_KNOWN:
            self._known = {media_id: self._known[media_id] for media_id in media_ids if media_id in self._known}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._known.update(zip(stale, pool.map(self._look, stale), strict=True))

    def _look(self, media_id: str) -> _Known:
        if self._store.size(result_path(media_id)) is None:
            return _Known(time.monotonic(), False, None)
        track = self._store.read(f"media/{media_id}/{VIEWS['storyboard_vtt']}")
        return _Known(time.monotonic(), True, track[0].decode(errors="replace") if track else None)


def build_index(store: Store, progress: Callable[[int, int], None] = lambda done, of: None) -> Built:
    """Makes the store's index, or brings it up to date. `progress` is told how many media are read, of how many.

    Raises StoreConflict while another build runs, StoreUnavailable where the store or the index cannot be used.
    """
    folder = index_folder(store)
    parts = list_parts(store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        there = dict(zip(parts, pool.map(lambda m: store.size(result_path(m)) is not None, parts), strict=True))
    committed = {media_id: versions for media_id, versions in parts.items() if there[media_id]}
    with disk(folder, "build the index of a store in a bucket: it lies in REELFLOW_CACHE_DIR"):
        return build(folder, committed, functools.partial(read_part, store), progress)


def index_state(store: Store) -> IndexState | None:
    """How far the index is behind the tables; None where there is no index."""
    found = open_index(index_folder(store))
    if found is None:
        return None
    known, parts = found.parts, list_parts(store)
    return IndexState(
        built=found.head.built,
        media=len(known),
        new=sum(media_id not in known for media_id in parts),
        changed=sum(media_id in parts and parts[media_id] != versions for media_id, versions in known.items()),
        gone=sum(media_id not in parts for media_id in known),
    )


def index_folder(store: Store) -> Path:
    """In the store if it is a folder, else in this host's cache."""
    if store.root.startswith("file://"):
        return Path(unquote(urlsplit(store.root).path)) / "index"
    return settings().cache / "index" / hashlib.sha256(store.root.encode()).hexdigest()[:32]


def list_parts(store: Store) -> dict[str, dict[str, str]]:
    """By media, the version of the part that each table has of it."""
    found: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(len(TABLES)) as pool:
        for table, stored in zip(
            TABLES, pool.map(lambda name: list(store.scan(f"tables/{name}")), TABLES), strict=True
        ):
            for part in stored:
                if name := _PART.fullmatch(part.path):
                    found.setdefault(name[1], {})[table] = f"{part.bytes}-{part.modified!r}"
    return found


def read_part(store: Store, table: str, media_id: str, version: str) -> Path:
    """A local file with one part; this host asks the store for each version once."""
    return store.local(table_path(table, media_id), version=version)
