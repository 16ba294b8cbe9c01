"""A corpus in a LanceDB index: opened in a moment, whatever its size.

LanceDB finds candidates: by its full-text index over our own stems, by its vector index, by number. What it returns is
matched and ranked as rows of the tables are. Of more than CANDIDATES segments with the words of a question, those count
that its BM25 puts first.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.errors import StoreUnavailable
from tasks.core.search.corpus import Boxes, Frame, MediaFacts, Scope, Sighted, TextRow, TextTable, blocks, nearest
from tasks.core.search.lance_tables import Head, connect, numbers_in, read_head, vector_table, vocabularies
from tasks.core.search.rows import BANK_LANGUAGE, Versions, means
from tasks.core.search.words import Vocabulary, Wanted, terms_of

CANDIDATES: Final = 5000
"""Segments, and tags of each text, that are looked at."""

PROBED: Final = 128
"""Partitions of a vector index that are searched: all of a small one, half of the largest."""

REFINED: Final = 4
"""For each frame that is wanted, how many are compared at full precision."""


class LanceCorpus:
    """One state of the index: a later build does not change it. Safe for several threads."""

    def __init__(self, folder: Path, head: Head) -> None:
        self._folder = folder
        self.head = head
        self._database = connect(folder)
        self._tables: dict[str, Any] = {}

    @cached_property
    def media(self) -> Mapping[str, MediaFacts]:
        return {facts.media_id: facts for facts in self._facts.values()}

    @cached_property
    def classes(self) -> frozenset[str]:
        return frozenset(self._codes)

    @property
    def parts(self) -> Mapping[str, Versions]:
        """The parts that each media was read from."""
        rows = zip(self._media["media_id"].to_pylist(), self._media["versions"].to_pylist(), strict=True)
        return {media_id: json.loads(versions) for media_id, versions in rows}

    @property
    def models(self) -> frozenset[str]:
        return frozenset(self._means)

    def vocabulary(self, table: TextTable) -> Vocabulary:
        return self._vocabularies[table]

    def texts(self, table: TextTable, wanted: Wanted, scope: Scope) -> Iterable[TextRow]:
        return self._speech(wanted, scope) if table == "speech" else self._tags(wanted, scope)

    def objects(self, names: frozenset[str], scope: Scope) -> Iterator[Sighted]:
        codes = {self._codes[name]: name for name in names if name in self._codes}
        where = _and(numbers_in("code", codes), self._where(scope, None, None))
        rows = _all(self._table("objects").search().where(where).select(["media", "highest"]))
        highest: dict[int, float] = defaultdict(float)
        for number, sure in zip(rows["media"].to_pylist(), rows["highest"].to_pylist(), strict=True):
            highest[number] = max(highest[number], sure)
        facts = self._facts
        order = sorted(highest, key=lambda number: (-highest[number], facts[number].media_id))
        for block in blocks(order):
            where = _and(numbers_in("code", codes), numbers_in("media", block))
            found = _all(self._table("objects").search().where(where))
            boxes = {name: _boxes(found.filter(pc.equal(found["code"], code)), block) for code, name in codes.items()}
            seen = {name: each for name, each in boxes.items() if len(each.frames)}
            yield Sighted([facts[number].media_id for number in block], highest[block[0]], seen)

    def frames(self, vector: NDArray[np.float32], model: str, count: int, scope: Scope) -> tuple[list[Frame], float]:
        name, mean = vector_table(model, len(vector)), self._means.get(model)
        if mean is None or mean.shape != vector.shape or name not in self.head.versions:
            return [], 0.0
        table = self._table(name)
        query = table.search(vector).distance_type("cosine").limit(count)
        if trained := self.head.trained.get(name):
            query = query.nprobes(min(partitions(trained), PROBED)).refine_factor(REFINED)
        if where := self._where(scope, "time", "time"):
            query = query.where(where)
        found = query.select(["media", "frame", "time", "until", "vector", "_distance"]).to_arrow()
        kept = found["vector"].combine_chunks().flatten().to_numpy().reshape(-1, len(vector)).astype(np.float32)
        columns = (found[column].to_pylist() for column in ("media", "frame", "time", "until"))
        frames = [
            Frame(self._facts[number].media_id, frame, time, until, float(cosine))
            for number, frame, time, until, cosine in zip(*columns, kept @ vector, strict=True)
        ]
        return nearest(frames, count), float(mean @ vector)

    def _speech(self, wanted: Wanted, scope: Scope) -> Iterator[TextRow]:
        search = self._table("speech").search(_full_text(wanted)).limit(CANDIDATES)
        if where := self._where(scope, "start", '"end"'):
            search = search.where(where)
        found = search.select(["media", "start", "end", "text", "terms", "_score"]).to_arrow()
        columns = (found[column].to_pylist() for column in ("media", "start", "end", "text", "terms"))
        for number, start, end, text, terms in zip(*columns, strict=True):
            yield TextRow(self._facts[number].media_id, start, end, text, terms.split(" "))

    def _tags(self, wanted: Wanted, scope: Scope) -> Iterator[TextRow]:
        for code, (label, text, terms) in self._tag_texts.items():
            if wanted.score(terms) is None:
                continue
            where = _and(numbers_in("code", [code]), self._where(scope, "start", '"end"'))
            found = _all(self._table("tags").search().where(where))
            order = np.argsort(-found["strength"].to_numpy(), kind="stable")[:CANDIDATES]
            columns = (
                found[column].take(order).to_pylist() for column in ("media", "start", "end", "whole", "strength")
            )
            for number, start, end, whole, strength in zip(*columns, strict=True):
                yield TextRow(self._facts[number].media_id, start, end, text, terms, label, whole, strength)

    def _where(self, scope: Scope, first: str | None, last: str | None) -> str | None:
        """The scope as a condition on rows that last from one column to the other; on any time without columns."""
        parts = []
        if scope.media is not None:
            parts.append(numbers_in("media", sorted(self._numbers[media_id] for media_id in scope.media)))
        if first and np.isfinite(scope.end_s):
            parts.append(f"{first} < {float(scope.end_s)!r}")
        if last and scope.start_s > 0:
            parts.append(f"{last} >= {float(scope.start_s)!r}")
        return " AND ".join(parts) or None

    @cached_property
    def _media(self) -> pa.Table:
        return _all(self._table("media").search())

    @cached_property
    def _facts(self) -> Mapping[int, MediaFacts]:
        """By number."""
        return {
            row["number"]: MediaFacts(
                row["media_id"], row["result_key"], row["source"], row["camera"], row["when"], row["duration_s"],
                row["step_s"], tuple(row["cuts"]),
            )
            for row in self._media.drop_columns(["total", "versions"]).to_pylist()
        }  # fmt: skip

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {facts.media_id: number for number, facts in self._facts.items()}

    @cached_property
    def _codes(self) -> Mapping[str, int]:
        found = _all(self._table("classes").search())
        return dict(zip(found["name"].to_pylist(), found["code"].to_pylist(), strict=True))

    @cached_property
    def _tag_texts(self) -> Mapping[int, tuple[str, str, list[str]]]:
        """(label, text, terms) by code."""
        return {
            row["code"]: (row["label"], row["text"], terms_of(row["text"], BANK_LANGUAGE))
            for row in _all(self._table("tag_texts").search()).to_pylist()
        }

    @cached_property
    def _vocabularies(self) -> Mapping[TextTable, Vocabulary]:
        return vocabularies(_all(self._table("words").search()))

    @cached_property
    def _means(self) -> Mapping[str, NDArray[np.float32]]:
        media = self._media.sort_by("media_id")
        rows = zip(media["model"].to_pylist(), media["frames"].to_pylist(), media["total"], strict=True)
        return means((model, count, total.values.to_numpy()) for model, count, total in rows if model)

    def _table(self, name: str) -> Any:
        if name not in self._tables:
            table = self._database.open_table(name)
            table.checkout(self.head.versions[name])
            self._tables[name] = table
        return self._tables[name]


def open_index(folder: Path) -> LanceCorpus | None:
    """The index in a folder; None where there is none. Raises StoreUnavailable for one that cannot be used."""
    head = read_head(folder)
    if head is None:
        return None
    try:
        corpus = LanceCorpus(folder, head)
        _ = corpus.media
    except Exception as error:
        raise StoreUnavailable(f"The index in {folder} is damaged: delete the folder and build it again with "
                               "`python -m flows build-index`.", detail=str(error)) from error  # fmt: skip
    return corpus


def partitions(rows: int) -> int:
    """Of a vector index over so many rows: about 4,096 rows each, at most 256 of them."""
    return max(1, min(256, rows // 4096))


def _boxes(rows: pa.Table, block: Sequence[int]) -> Boxes:
    """Rows of `objects` of one class, by the positions of their media in a block."""
    positions = {number: position for position, number in enumerate(block)}
    media = np.array([positions[number] for number in rows["media"].to_pylist()], np.int64)
    order = np.argsort(media, kind="stable")
    sorted_rows = rows.take(order)
    lengths = pc.list_value_length(sorted_rows["frames"]).to_numpy()
    frames, times, confidences = (
        pc.list_flatten(sorted_rows[name]).to_numpy() for name in ("frames", "times", "confidences")
    )
    return Boxes(np.repeat(media[order], lengths), frames, times, confidences)


def _full_text(wanted: Wanted) -> Any:
    """LanceDB's question for the texts that have enough of the words. Stems are letters and digits only."""
    from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur

    occur = Occur.MUST if wanted.needed == len(wanted.words) else Occur.SHOULD
    queries = [
        MatchQuery(
            " ".join(sorted(word.stems)),
            "terms",
            boost=1.0,
            fuzziness=0,
            max_expansions=50,
            operator=FullTextOperator.OR,
            prefix_length=0,
            document_granularity=None,
        )
        for word in wanted.words
    ]
    return BooleanQuery([(occur, query) for query in queries])


def _all(query: Any) -> pa.Table:
    """Every row that a query without a search finds; without a limit LanceDB gives all."""
    return query.limit(None).to_arrow()


def _and(*conditions: str | None) -> str:
    return " AND ".join(condition for condition in conditions if condition)
