"""Making and renewing the index: only media that are new, changed or gone cost anything.

The tables are changed first, then `index.json` names their new versions: readers see the old state or the new one. A
build that is killed leaves the old one, and the next build begins from there.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from filelock import FileLock, Timeout

from tasks.core.errors import StoreConflict
from tasks.core.search.corpus import TextRow, TextTable
from tasks.core.search.lance import partitions
from tasks.core.search.lance_tables import (
    ROWS_OF_MEDIA,
    SCHEMAS,
    Head,
    connect,
    media_row,
    numbers_in,
    read_head,
    vector_rows,
    vector_table,
    vocabularies,
    vocabulary_rows,
    write_head,
)
from tasks.core.search.rows import BANK_LANGUAGE, MediaRows, ReadPart, Versions, load_media

BLOCK: Final = 200
"""Media that are read and written together."""

INDEXED_VECTORS: Final = 20_000
"""Fewer are compared one by one, which is exact: about 3 ms for each thousand."""

BITS: Final = 4
ITERATIONS: Final = 10
SAMPLE: Final = 64
"""Of the vector index: bits kept of each number, and rounds and rows per partition that its partitions are found by."""

READERS: Final = 16
_FOR_EVER: Final = timedelta(days=36500)
_OLD: Final = timedelta(hours=1)
"""How long a reader may go on with a state that is no longer the newest."""

_NEVER_READ: Final = timedelta(milliseconds=1)
"""Before the first state there is nothing that is read."""


@dataclass(frozen=True)
class Built:
    """What a build did."""

    media: int
    new: int
    changed: int
    gone: int
    segments: int
    vectors: int
    seconds: float
    bytes: int


def build(
    folder: Path,
    parts: Mapping[str, Versions],
    read: ReadPart,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Built:
    """Brings the index in a folder up to the media whose parts are given.

    Raises StoreConflict while another build runs, StoreUnavailable for an index that has to be deleted first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "build.lock", timeout=0):
            return _Build(folder, parts, read).run(progress)
    except Timeout:
        raise StoreConflict(f"Another build of the index in {folder} is running; wait for it.") from None


class _Build:
    def __init__(self, folder: Path, parts: Mapping[str, Versions], read: ReadPart) -> None:
        self._began = time.monotonic()
        self._folder = folder
        self._parts = parts
        self._read = read
        self._database = connect(folder)
        self._head = read_head(folder) or Head(versions={}, trained={}, built="")
        self._trained = dict(self._head.trained)
        self._tables: dict[str, Any] = {}
        for name, version in self._head.versions.items():
            table = self._database.open_table(name)
            if table.version != version:
                table.checkout(version)
                table.restore()
            self._tables[name] = table
        for name in SCHEMAS:
            if name not in self._tables:
                self._tables[name] = self._database.create_table(name, schema=SCHEMAS[name], mode="overwrite")
        self._media: dict[str, dict[str, Any]] = {row["media_id"]: row for row in self._rows("media").to_pylist()}
        self._words = vocabularies(self._rows("words"))
        self._classes = _codes(self._rows("classes"), "name")
        texts = self._rows("tag_texts")
        keys = zip(texts["label"].to_pylist(), texts["text"].to_pylist(), strict=True)
        self._tags: dict[tuple[str, str], int] = dict(zip(keys, texts["code"].to_pylist(), strict=True))

    def run(self, progress: Callable[[int, int], None]) -> Built:
        versions = {media_id: _text(found) for media_id, found in self._parts.items()}
        known = {media_id: row["versions"] for media_id, row in self._media.items()}
        gone = [media_id for media_id in known if media_id not in versions]
        changed = [media_id for media_id, text in known.items() if versions.get(media_id, text) != text]
        new = [media_id for media_id in versions if media_id not in known]
        if not (gone or changed or new) and self._head.built:
            self._commit()
            return self._built(0, 0, 0)
        first = 1 + max((row["number"] for row in self._media.values()), default=-1)
        self._forget([*gone, *changed])
        numbers, done = itertools.count(first), 0
        todo = [*changed, *new]
        for block in _blocks(todo, BLOCK):
            with ThreadPoolExecutor(READERS) as pool:
                loaded = list(pool.map(lambda media_id: load_media(self._read, media_id, self._parts[media_id]), block))
            self._add([(next(numbers), rows, versions[rows.facts.media_id]) for rows in loaded if rows])
            done += len(block)
            progress(done, len(todo))
        self._finish()
        return self._built(len(new), len(changed), len(gone))

    def _forget(self, media_ids: Sequence[str]) -> None:
        for block in _blocks(media_ids, BLOCK):
            where = numbers_in("media", [self._media[media_id]["number"] for media_id in block])
            said = self._rows("speech", where)
            for text, language in zip(said["text"].to_pylist(), said["language"].to_pylist(), strict=True):
                self._words["speech"].add(text, language, -1)
            texts = {code: text for (_, text), code in self._tags.items()}
            for code in self._rows("tags", where)["code"].to_pylist():
                self._words["tags"].add(texts[code], BANK_LANGUAGE, -1)
            for name in self._of_media():
                self._tables[name].delete(where)
            for media_id in block:
                del self._media[media_id]

    def _add(self, loaded: Sequence[tuple[int, MediaRows, str]]) -> None:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ROWS_OF_MEDIA}
        for number, media, versions in loaded:
            self._media[media.facts.media_id] = media_row(number, media, versions)
            for table in self._words:
                for row, language in media.texts[table]:
                    self._words[table].add(row.text, language)
                    rows[table].append(self._text_row(table, number, row, language))
            for name, boxes in media.boxes.items():
                rows["objects"].append(
                    {
                        "media": number,
                        "code": self._classes.setdefault(name, len(self._classes)),
                        "highest": float(boxes.confidences.max()),
                        "frames": boxes.frames,
                        "times": boxes.times,
                        "confidences": boxes.confidences,
                    }
                )
        for name, made in rows.items():
            if made:
                self._tables[name].add(pa.Table.from_pylist(made, schema=SCHEMAS[name]))
        by_table: dict[str, list[pa.Table]] = {}
        for number, media, _ in loaded:
            if media.vectors:
                size = media.vectors.vectors.shape[1]
                by_table.setdefault(vector_table(media.vectors.model, size), []).append(
                    vector_rows(number, media.vectors)
                )
        for name, tables in by_table.items():
            if name not in self._tables:
                schema = tables[0].schema
                self._tables[name] = self._database.create_table(name, schema=schema, mode="overwrite")
            self._tables[name].add(pa.concat_tables(tables))

    def _text_row(self, table: TextTable, number: int, row: TextRow, language: str | None) -> dict[str, Any]:
        common = {"media": number, "start": row.start, "end": row.end}
        if table == "speech":
            return {**common, "text": row.text, "language": language, "terms": " ".join(row.terms)}
        code = self._tags.setdefault((row.label, row.text), len(self._tags))
        return {**common, "code": code, "whole": row.whole, "strength": row.strength}

    def _finish(self) -> None:
        """Indexes what is new, and makes this state the one that is read."""
        for name in self._of_media():
            self._index(name)
        self._replace("media", pa.Table.from_pylist(list(self._media.values()), schema=SCHEMAS["media"]))
        self._replace("words", vocabulary_rows(self._words))
        self._replace("classes", _coded(self._classes, "name"))
        labels = [{"code": code, "label": label, "text": text} for (label, text), code in self._tags.items()]
        self._replace("tag_texts", pa.Table.from_pylist(labels, schema=SCHEMAS["tag_texts"]))
        self._commit()

    def _commit(self) -> None:
        """Names the newest version of each table, then removes those that no reader can be at.

        Removing may compact, and so make a version that nobody has named; only tables with a version of this build are
        touched, and nothing is removed that this build has made. A first build has no readers and removes before.
        """
        first = not self._head.built
        for table in self._tables.values():
            table.optimize(cleanup_older_than=_NEVER_READ if first else _FOR_EVER)
        versions = {name: int(table.version) for name, table in self._tables.items()}
        if versions == self._head.versions:
            return
        built = datetime.now(UTC).isoformat(timespec="seconds")
        write_head(self._folder, Head(versions=versions, trained=self._trained, built=built))
        for name, table in self._tables.items():
            if not first and versions[name] != self._head.versions.get(name):
                table.optimize(cleanup_older_than=_OLD + timedelta(seconds=time.monotonic() - self._began))

    def _index(self, name: str) -> None:
        from lancedb.index import FTS, IvfRq

        table = self._tables[name]
        rows = table.count_rows()
        if name == "speech" and rows and not list(table.list_indices()):
            plain = FTS(
                base_tokenizer="whitespace",
                stem=False,
                remove_stop_words=False,
                ascii_folding=False,
                lower_case=False,
                max_token_length=None,
            )
            table.create_index("terms", config=plain)
        if name not in ROWS_OF_MEDIA and rows >= max(INDEXED_VECTORS, 2 * self._trained.get(name, 0)):
            config = IvfRq(
                distance_type="cosine",
                num_partitions=partitions(rows),
                num_bits=BITS,
                max_iterations=ITERATIONS,
                sample_rate=SAMPLE,
            )
            table.create_index("vector", config=config, replace=True)
            self._trained[name] = rows

    def _built(self, new: int, changed: int, gone: int) -> Built:
        vectors = [name for name in self._of_media() if name not in ROWS_OF_MEDIA]
        return Built(
            media=len(self._media),
            new=new,
            changed=changed,
            gone=gone,
            segments=self._tables["speech"].count_rows(),
            vectors=sum(self._tables[name].count_rows() for name in vectors),
            seconds=time.monotonic() - self._began,
            bytes=sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file()),
        )

    def _of_media(self) -> list[str]:
        """Tables whose rows belong to a media."""
        return [name for name in self._tables if name in ROWS_OF_MEDIA or name not in SCHEMAS]

    def _rows(self, name: str, where: str | None = None) -> pa.Table:
        query = self._tables[name].search()
        return (query.where(where) if where else query).limit(None).to_arrow()

    def _replace(self, name: str, rows: pa.Table) -> None:
        self._tables[name] = self._database.create_table(name, rows, mode="overwrite")


def _codes(rows: pa.Table, name: str) -> dict[str, int]:
    return dict(zip(rows[name].to_pylist(), rows["code"].to_pylist(), strict=True))


def _coded(codes: Mapping[str, int], name: str) -> pa.Table:
    rows = [{"code": code, name: text} for text, code in codes.items()]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["classes"])


def _text(versions: Versions) -> str:
    return json.dumps(versions, sort_keys=True)


def _blocks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[at : at + size] for at in range(0, len(items), size))
