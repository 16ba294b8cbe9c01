"""Finding moments: what is said, seen and described, and what frames look like, in one list.

    moments = search(Query(text='"red circle" jumps'), corpus, embed)

The text is looked for in every kind that the query names (`language.py` has its grammar), each kind ranks its finds,
and `finds.py` fuses the ranks. A corpus (`corpus.py`) is the tables of a store or an index of them: the answers are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from tasks.core.search.corpus import Corpus, Scope, TextTable
from tasks.core.search.finds import Find, Fused, fuse, ordered
from tasks.core.search.kinds import Embed, objects, scenes, speech, tags
from tasks.core.search.language import known, parse
from tasks.core.search.query import KINDS, Kind, Moment, Query, QueryError

__all__ = ["KINDS", "Embed", "Kind", "Moment", "Query", "QueryError", "search"]

Committed = Callable[[Sequence[str]], Collection[str]]
"""Of these media, those that still have a result."""

Pictures = Callable[[Sequence[tuple[str, float]]], Sequence[str | None]]
"""Thumbnails, as URIs, of seconds of media."""

MOST_FINDS: Final = 200
"""Of each kind, before they are fused."""


def search(
    query: Query,
    corpus: Corpus,
    embed: Embed | None = None,
    *,
    committed: Committed = frozenset,
    pictures: Pictures = lambda places: [None] * len(places),
) -> list[Moment]:
    """The moments that answer a query, best first.

    `embed` is only called where the query names a model and asks for scenes; `committed` and `pictures` are asked about
    moments of the answer only.
    Raises QueryError for a question that cannot be asked.
    """
    chosen = [media_id for media_id, facts in corpus.media.items() if not query.filters or facts.passes(query)]
    tables: tuple[TextTable, ...] = ("speech", "tags")
    parsed = parse(
        query.text,
        corpus.classes,
        lambda word: any(corpus.vocabulary(table).has(word) for table in tables if table in query.kinds),
    )
    if query.kinds == {"objects"} and parsed.objects is None:
        raise QueryError(f"{query.text!r} names no class of objects (without, no and not have none): "
                         f"{known(corpus.classes)}")  # fmt: skip
    scope = Scope(frozenset(chosen) if query.filters else None, parsed.start_s, parsed.end_s)
    most = max(MOST_FINDS, query.limit)
    finders: dict[Kind, Callable[[], Iterable[Find]]] = {
        "speech": lambda: speech(parsed, corpus, scope, most),
        "objects": lambda: objects(parsed, corpus, scope, most, alone=query.kinds == {"objects"}),
        "tags": lambda: tags(parsed, corpus, scope),
        "scenes": lambda: scenes(parsed, corpus, scope, query.model, embed),
    }
    lists = {kind: ordered(find(), most) for kind, find in finders.items() if kind in query.kinds and chosen}
    return _answer(fuse(lists), corpus, query.limit, committed, pictures)


def _answer(
    fused: Sequence[Fused], corpus: Corpus, limit: int, committed: Committed, pictures: Pictures
) -> list[Moment]:
    """The first moments of media that have a result; media are asked about many at a time."""
    chosen: list[Fused] = []
    for at in range(0, len(fused), limit):
        block = fused[at : at + limit]
        there = committed(list(dict.fromkeys(found.media_id for found in block)))
        chosen += [found for found in block if found.media_id in there]
        if len(chosen) >= limit:
            break
    chosen = chosen[:limit]
    shown = pictures([(found.media_id, (found.start + found.end) / 2) for found in chosen])
    return [
        Moment(
            media_id=found.media_id,
            source=corpus.media[found.media_id].source,
            start=round(found.start, 3),
            end=round(found.end, 3),
            score=round(found.score, 6),
            kind=found.kind,
            why=found.why,
            thumbnail=picture,
        )
        for found, picture in zip(chosen, shown, strict=True)
    ]
