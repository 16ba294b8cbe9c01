"""One function for each kind of search: what it finds, scored within the kind."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.search.corpus import Corpus, Frame, MediaFacts, Scope, TextRow
from tasks.core.search.finds import Find
from tasks.core.search.language import Parsed
from tasks.core.search.objects import find_objects
from tasks.core.search.query import printable
from tasks.core.search.words import Wanted, wanted

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors (N, D), of the model whose digest the query names."""

FRAMES: Final = 400
"""Nearest frames that are looked at."""

LIKE: Final = 0.5
"""A frame counts as like the question from half-way between the mean cosine of all frames and the best."""

SNIPPET: Final = 90
"""Characters of a text that are shown."""


def speech(parsed: Parsed, corpus: Corpus, scope: Scope, most: int) -> list[Find]:
    """The `most` segments that match best."""
    asked = wanted(parsed.loose, parsed.phrases, corpus.vocabulary("speech"))
    if asked is None:
        return []
    scored = [
        (score, row)
        for row in corpus.texts("speech", asked, scope)
        if scope.has(row.start, row.end) and (score := asked.score(row.terms)) is not None
    ]
    scored.sort(key=lambda entry: (-round(entry[0], 5), *entry[1][:4]))
    return [
        Find(row.media_id, row.start, row.end, "speech", score, f"says: {_snippet(row, asked)}")
        for score, row in scored[:most]
    ]


def tags(parsed: Parsed, corpus: Corpus, scope: Scope) -> Iterable[Find]:
    """Neighbouring chunks with the same text are one find."""
    asked = wanted(parsed.loose, parsed.phrases, corpus.vocabulary("tags"))
    if asked is None:
        return
    same: dict[tuple[str, str, str, bool], list[tuple[TextRow, float]]] = defaultdict(list)
    for row in corpus.texts("tags", asked, scope):
        score = asked.score(row.terms)
        if score is not None and scope.has(row.start, row.end):
            same[row.media_id, row.label, row.text, row.whole].append((row, score + row.strength))
    for (media_id, label, text, whole), rows in same.items():
        rows.sort(key=lambda entry: entry[0].start)
        role: Literal["whole", "moment"] = "whole" if whole else "moment"
        start, end, best = rows[0][0].start, rows[0][0].end, rows[0][1]
        for row, score in rows[1:]:
            if row.start > end + 1e-6:
                yield Find(media_id, start, end, "tags", best, f"{label}: {printable(text)}", role)
                start, best = row.start, score
            end, best = max(end, row.end) if row.start <= end + 1e-6 else row.end, max(best, score)
        yield Find(media_id, start, end, "tags", best, f"{label}: {printable(text)}", role)


def objects(parsed: Parsed, corpus: Corpus, scope: Scope, most: int, *, alone: bool) -> list[Find]:
    """Where the objects are seen. If the text asks for more than objects, seeing them only makes better what other
    kinds find there, unless objects `alone` are asked for."""
    asked = parsed.objects
    if asked is None:
        return []
    names = frozenset(term.name for alternative in asked.alternatives for term in alternative)
    between = scope.start_s, scope.end_s
    finds = find_objects(corpus.objects(names, scope), corpus.media, asked, between, most)
    return finds if asked.complete or alone else [replace(find, role="support") for find in finds]


def scenes(parsed: Parsed, corpus: Corpus, scope: Scope, model: str | None, embed: Embed | None) -> Iterable[Find]:
    if embed is None or model is None:
        return
    vector = unit(np.asarray(embed([parsed.meaning]), np.float32)[0])
    frames, mean = corpus.frames(vector, model, FRAMES, scope)
    best = max((frame.cosine for frame in frames), default=0.0)
    like = [frame for frame in frames if frame.cosine >= mean + LIKE * (best - mean)]
    of_media: dict[str, list[Frame]] = defaultdict(list)
    for frame in sorted(like, key=lambda frame: (frame.media_id, frame.number)):
        of_media[frame.media_id].append(frame)
    for media_id, found in of_media.items():
        for group in _neighbours(found, corpus.media[media_id]):
            score = max(frame.cosine for frame in group)
            why = f"looks like: {parsed.meaning} ({score:.2f})"
            yield Find(media_id, group[0].time, _end(group[-1], corpus.media[media_id]), "scenes", score, why)


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector with length 1. Raises ValueError where it has no direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise ValueError("a vector without a direction was given; the text encoder is at fault")
    return np.asarray(vector / length, np.float32)


def _neighbours(frames: Sequence[Frame], facts: MediaFacts) -> Iterator[list[Frame]]:
    """Frames of one media in order, parted where another kind of frame or a scene change lies between."""
    group: list[Frame] = []
    for frame in frames:
        if group and (frame.number > group[-1].number + 2 or _next_cut(facts, group[-1].time) <= frame.time):
            yield group
            group = []
        group.append(frame)
    if group:
        yield group


def _end(last: Frame, facts: MediaFacts) -> float:
    return min(last.until, _next_cut(facts, last.time))


def _next_cut(facts: MediaFacts, time: float) -> float:
    at = bisect_right(facts.cuts, time)
    return facts.cuts[at] if at < len(facts.cuts) else float("inf")


def _snippet(row: TextRow, asked: Wanted) -> str:
    """The part of the text around the first word that was found."""
    text = printable(row.text)
    if len(text) <= SNIPPET:
        return text
    middle = len(text) * asked.first(row.terms) // max(len(row.terms), 1)
    start = max(0, min(middle - SNIPPET // 3, len(text) - SNIPPET))
    begin = text.find(" ", max(start - 1, 0), start + 20) + 1 if start else 0
    piece = text[begin : start + SNIPPET]
    tail = start + SNIPPET < len(text)
    piece = piece.rsplit(" ", 1)[0] if tail and " " in piece[20:] else piece
    return f"{'… ' if begin else ''}{piece}{' …' if tail else ''}"
