"""Searching a store: which tables it has, where its index lies, and what the moments of an answer look like.

    searcher = Searcher(open_store(address))
    moments = searcher.search(Query(text="red circle", model=digest), embed)

Without an index the Parquet tables are searched; `build_index` makes one that is opened at once. Both give the same
answers. The index is disposable: delete its folder and build it again.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tasks.core.publish.storyboard import picture_at
from tasks.core.search import Embed, Moment, Query, search
from tasks.core.search.build import Built, build
from tasks.core.search.corpus import Corpus
from tasks.core.search.lance import LanceCorpus, open_index
from tasks.core.search.lance_tables import read_head
from tasks.core.search.parts import PartsCorpus
from tasks.core.search.rows import TABLES, Versions
from tasks.results import result_path, table_path
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


class Searcher:
    """Answers questions about one store; keeps what it has read, and sees what others add. For any thread.

    `indexed`: True needs an index, False looks at the tables, None takes an index where there is one.
    """

    def __init__(self, store: Store, *, indexed: bool | None = None) -> None:
        self._store = store
        self._indexed = indexed
        self._lock = threading.RLock()
        self._parts = PartsCorpus(lambda table, media_id, version: read_part(store, table, media_id, version))
        self._listed = -FRESH_S
        self._index: LanceCorpus | None = None
        self._known: dict[str, tuple[float, bool, str | None]] = {}
        """By media: when it was asked about, if it has a result, its storyboard's track."""

    def search(self, query: Query, embed: Embed | None = None) -> list[Moment]:
        """The moments that answer a query, best first; see tasks.core.search.search."""
        index = None if self._indexed is False else self._open_index()
        if index is not None:
            return search(query, index, embed, committed=self._committed, pictures=self._pictures)
        with self._lock:
            return search(query, self._tables(), embed, committed=self._committed, pictures=self._pictures)

    def corpus(self) -> Corpus:
        """What is searched: its media, and the classes that can be asked for."""
        index = None if self._indexed is False else self._open_index()
        return index or self._tables()
