"""Lists of finds, one for each kind, become one list of moments: reciprocal rank fusion, and overlaps merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tasks.core.search.query import Kind

K: Final = 60
"""Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion: 1 / (60 + rank), rank from 1."""


@dataclass(frozen=True)
class Find:
    """What one kind of search found in one media; higher scores are better, within the kind."""

    media_id: str
    start: float
    end: float
    kind: Kind
    score: float
    why: str
    role: Literal["moment", "whole", "support"] = "moment"
    """whole: about the media as a whole, a moment where it has no other. support: never a moment by itself."""


@dataclass(frozen=True)
class Fused:
    media_id: str
    start: float
    end: float
    score: float
    kind: Kind
    why: str


def ordered(finds: Iterable[Find], most: int) -> list[Find]:
    """Best first, at most `most`; ties by media and time, so that the order never depends on the backend."""
    return sorted(finds, key=lambda find: (-round(find.score, 5), find.media_id, find.start, find.end, find.why))[:most]


def fuse(lists: Mapping[Kind, Sequence[Find]]) -> list[Fused]:
    """Each list is in order of rank. A moment has the times of its best find, the shortest of several equally good.

    Every other find of the same media that overlaps it gives it its reason, and the best one of each other kind its
    score; so no two moments of a media overlap. Best first.
    """
    ranked: dict[str, list[tuple[float, Find]]] = defaultdict(list)
    for finds in lists.values():
        for rank, find in enumerate(finds, 1):
            ranked[find.media_id].append((1 / (K + rank), find))
    moments = [moment for found in ranked.values() for moment in _merged(found)]
    moments.sort(key=lambda moment: (-round(moment.score, 9), moment.media_id, moment.start))
    return moments


def _merged(found: list[tuple[float, Find]]) -> Iterable[Fused]:
    """The moments of one media."""
    anchors = [entry for entry in found if entry[1].role == "moment"]
    anchors = anchors or [entry for entry in found if entry[1].role == "whole"]
    supports = [entry for entry in found if entry not in anchors]
    anchors.sort(key=_goodness, reverse=True)
    taken: set[int] = set()
    for share, anchor in anchors:
        if id(anchor) in taken:
            continue
        joined = [(share, anchor)]
        joined += [e for e in anchors if id(e[1]) not in taken and e[1] is not anchor and _overlap(e[1], anchor)]
        joined += [e for e in supports if _overlap(e[1], anchor)]
        taken.update(id(find) for _, find in joined)
        best: dict[Kind, float] = {}
        reasons: dict[Kind, list[str]] = {}
        for each, find in sorted(joined, key=_goodness, reverse=True):
            best.setdefault(find.kind, each)
            reasons.setdefault(find.kind, []).append(find.why)
        why = "; ".join(dict.fromkeys(reason for said in reasons.values() for reason in said[:2]))
        yield Fused(anchor.media_id, anchor.start, anchor.end, sum(best.values()), anchor.kind, why)


def _goodness(entry: tuple[float, Find]) -> tuple[float, float, float, str]:
    share, find = entry
    return share, find.start - find.end, -find.start, find.kind


def _overlap(one: Find, other: Find) -> bool:
    """Do they share time? An instant lies in what begins with it."""
    if one.start == other.start:
        return True
    return one.start < other.end and other.start < one.end
