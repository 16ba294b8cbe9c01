"""Where the objects that a question asks for are seen."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.search.corpus import Boxes, MediaFacts
from tasks.core.search.finds import Find, ordered
from tasks.core.search.language import ObjectQuery, ObjectTerm
from tasks.core.search.query import printable


class Seen(NamedTuple):
    """Frames that satisfy one term, in order."""

    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    confidences: NDArray[np.float64]
    """Of the last box that the count needs."""


class Stretch(NamedTuple):
    start: float
    end: float
    confidence: float


def find_objects(
    candidates: Iterable[tuple[str, float, Mapping[str, Boxes]]],
    media: Mapping[str, MediaFacts],
    asked: ObjectQuery,
    between: tuple[float, float],
    most: int,
) -> list[Find]:
    """The `most` stretches of time that were seen with the highest confidence.

    `candidates` come with the highest confidence first: no media is looked at that could not get among the best.
    """
    found: list[Find] = []
    best: list[float] = []
    for media_id, highest, boxes in candidates:
        if len(best) == most and highest < best[0] - 1e-4:
            break
        for alternative in asked.alternatives:
            why = "shows " + " and ".join(printable(str(term)) for term in alternative) + _apart(asked, alternative)
            for stretch in _stretches(boxes, alternative, asked, media[media_id], between):
                found.append(
                    Find(media_id, stretch.start, stretch.end, "objects", stretch.confidence,
                         f"{why} ({stretch.confidence:.0%})")
                )  # fmt: skip
                (heapq.heappush if len(best) < most else heapq.heappushpop)(best, stretch.confidence)
    return ordered(found, most)


def _apart(asked: ObjectQuery, alternative: tuple[ObjectTerm, ...]) -> str:
    return f" within {asked.within_s:g} s" if asked.within_s and len(alternative) > 1 else ""


def _stretches(
    boxes: Mapping[str, Boxes],
    terms: tuple[ObjectTerm, ...],
    asked: ObjectQuery,
    facts: MediaFacts,
    between: tuple[float, float],
) -> Iterator[Stretch]:
    """Where all terms are seen together, neighbouring frames as one stretch."""
    seen = [_seen(boxes[term.name], term, asked, between) for term in terms if term.name in boxes]
    if len(seen) < len(terms) or any(not len(each.frames) for each in seen):
        return
    together = _near if asked.within_s and len(terms) > 1 else _same_frame
    for start, last, confidence in together(seen, asked.within_s, facts.step_s):
        end = max(last, min(last + facts.step_s, facts.duration_s))
        yield Stretch(start, end, round(confidence, 5))


def _seen(boxes: Boxes, term: ObjectTerm, asked: ObjectQuery, between: tuple[float, float]) -> Seen:
    sure = boxes.confidences >= asked.confidence if asked.or_equal else boxes.confidences > asked.confidence
    at = np.flatnonzero(sure & (boxes.times >= between[0]) & (boxes.times < between[1]))
    at = at[np.lexsort((-boxes.confidences[at], boxes.frames[at]))]
    frames, first, counts = np.unique(boxes.frames[at], return_index=True, return_counts=True)
    fits = counts >= term.least
    if term.most is not None:
        fits &= counts <= term.most
    needed = at[first[fits] + term.least - 1]
    return Seen(frames[fits].astype(np.int64), boxes.times[needed], boxes.confidences[needed].astype(np.float64))


def _same_frame(seen: list[Seen], within_s: float, step_s: float) -> Iterator[Stretch]:
    frames = seen[0].frames
    for each in seen[1:]:
        frames = np.intersect1d(frames, each.frames, assume_unique=True)
    if not len(frames):
        return
    places = [np.searchsorted(each.frames, frames) for each in seen]
    confidence = np.mean([each.confidences[place] for each, place in zip(seen, places, strict=True)], axis=0)
    times = seen[0].times[places[0]]
    breaks = np.flatnonzero(np.diff(frames) > 1) + 1
    for group in np.split(np.arange(len(frames)), breaks):
        yield Stretch(float(times[group[0]]), float(times[group[-1]]), float(confidence[group].max()))


def _near(seen: list[Seen], within_s: float, step_s: float) -> Iterator[Stretch]:
    """The shortest stretches that hold every term, where they are at most `within_s` long; neighbours are joined."""
    events = sorted(
        (float(time), number, float(confidence))
        for number, each in enumerate(seen)
        for time, confidence in zip(each.times, each.confidences, strict=True)
    )
    latest: dict[int, tuple[float, float]] = {}
    current: Stretch | None = None
    for time, number, confidence in events:
        latest[number] = time, confidence
        start = min(at for at, _ in latest.values())
        if len(latest) < len(seen) or time - start > within_s + 1e-9:
            continue
        sure = sum(each for _, each in latest.values()) / len(latest)
        if current and start <= current.end + step_s * 1.5:
            current = Stretch(min(current.start, start), time, max(current.confidence, sure))
            continue
        if current:
            yield current
        current = Stretch(start, time, sure)
    if current:
        yield current
