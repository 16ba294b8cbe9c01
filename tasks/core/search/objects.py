"""Where the objects that a question asks for are seen: all media of a block at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.search.corpus import Boxes, MediaFacts, Sighted
from tasks.core.search.finds import Find, ordered
from tasks.core.search.language import ObjectQuery, ObjectTerm
from tasks.core.search.query import printable

JOINED_STEPS: Final = 1.5
"""Stretches that begin within so many steps between frames after the end of the one before are one."""

_FRAMES: Final = 1 << 32
"""More than a media has: media * _FRAMES + frame tells frames of all media apart, and neighbours differ by one."""


class Seen(NamedTuple):
    """Frames that satisfy one term, in order of media and frames."""

    keys: NDArray[np.int64]
    times: NDArray[np.float64]
    confidences: NDArray[np.float64]
    """Of the last box that the count needs."""


class Stretches(NamedTuple):
    media: NDArray[np.int64]
    starts: NDArray[np.float64]
    lasts: NDArray[np.float64]
    """Times of the last frames."""
    confidences: NDArray[np.float64]


def find_objects(
    sighted: Iterable[Sighted],
    media: Mapping[str, MediaFacts],
    asked: ObjectQuery,
    between: tuple[float, float],
    most: int,
) -> list[Find]:
    """The `most` stretches of time that were seen with the highest confidence.

    `sighted` comes with the highest confidence first: no media is looked at that could not get among the best.
    """
    found: list[Find] = []
    least = -1.0
    for block in sighted:
        if block.highest < least:
            break
        facts = [media[media_id] for media_id in block.media]
        steps = np.array([each.step_s for each in facts])
        durations = np.array([each.duration_s for each in facts])
        for terms in asked.alternatives:
            made = _stretches(block.boxes, terms, asked, steps, between)
            if made is None:
                continue
            ends = np.maximum(made.lasts, np.minimum(made.lasts + steps[made.media], durations[made.media]))
            confidences = np.round(made.confidences, 5)
            why = "shows " + " and ".join(printable(str(term)) for term in terms) + _apart(asked, terms)
            for at in np.flatnonzero(confidences >= least):
                sure = float(confidences[at])
                found.append(
                    Find(
                        block.media[made.media[at]],
                        float(made.starts[at]),
                        float(ends[at]),
                        "objects",
                        sure,
                        f"{why} ({sure:.0%})",
                    )
                )
        if len(found) >= most:
            found = ordered(found, most)
            least = found[-1].score - 1e-4
    return ordered(found, most)


def _apart(asked: ObjectQuery, terms: Sequence[ObjectTerm]) -> str:
    return f" within {asked.within_s:g} s" if asked.within_s and len(terms) > 1 else ""


def _stretches(
    boxes: Mapping[str, Boxes],
    terms: Sequence[ObjectTerm],
    asked: ObjectQuery,
    steps: NDArray[np.float64],
    between: tuple[float, float],
) -> Stretches | None:
    """Where all terms are seen together, neighbouring frames as one stretch."""
    seen = [_seen(boxes[term.name], term, asked, between) for term in terms if term.name in boxes]
    if len(seen) < len(terms) or any(not len(each.keys) for each in seen):
        return None
    return _near(seen, asked.within_s, steps) if asked.within_s and len(terms) > 1 else _same_frame(seen)


def _seen(boxes: Boxes, term: ObjectTerm, asked: ObjectQuery, between: tuple[float, float]) -> Seen:
    sure = boxes.confidences >= asked.confidence if asked.or_equal else boxes.confidences > asked.confidence
    at = np.flatnonzero(sure & (boxes.times >= between[0]) & (boxes.times < between[1]))
    keys = boxes.media[at] * _FRAMES + boxes.frames[at]
    order = np.lexsort((-boxes.confidences[at], keys))
    at, (unique, first, counts) = at[order], np.unique(keys, return_index=True, return_counts=True)
    fits = counts >= term.least
    if term.most is not None:
        fits &= counts <= term.most
    needed = at[first[fits] + term.least - 1]
    return Seen(unique[fits], boxes.times[needed], boxes.confidences[needed].astype(np.float64))


def _same_frame(seen: Sequence[Seen]) -> Stretches | None:
    keys = seen[0].keys
    for each in seen[1:]:
        keys = np.intersect1d(keys, each.keys, assume_unique=True)
    if not len(keys):
        return None
    places = [np.searchsorted(each.keys, keys) for each in seen]
    confidences = np.mean([each.confidences[place] for each, place in zip(seen, places, strict=True)], axis=0)
    times = seen[0].times[places[0]]
    return _joined(keys // _FRAMES, times, times, confidences, np.diff(keys) > 1)


def _near(seen: Sequence[Seen], within_s: float, steps: NDArray[np.float64]) -> Stretches | None:
    """The shortest stretches that hold every term, where they are at most `within_s` long; neighbours are joined."""
    media = np.concatenate([each.keys // _FRAMES for each in seen])
    times = np.concatenate([each.times for each in seen])
    confidences = np.concatenate([each.confidences for each in seen])
    terms = np.repeat(np.arange(len(seen)), [len(each.keys) for each in seen])
    order = np.lexsort((terms, times, media))
    media, times, confidences, terms = media[order], times[order], confidences[order], terms[order]
    places = np.arange(len(order))
    latest = np.stack([np.maximum.accumulate(np.where(terms == term, places, -1)) for term in range(len(seen))])
    there = ((latest >= 0) & (media[latest] == media)).all(axis=0)
    starts = times[latest].min(axis=0)
    fits = there & (times - starts <= within_s + 1e-9)
    if not fits.any():
        return None
    means = confidences[latest].mean(axis=0)[fits]
    media, starts, times = media[fits], starts[fits], times[fits]
    parted = (np.diff(media) > 0) | (starts[1:] > times[:-1] + JOINED_STEPS * steps[media[1:]])
    return _joined(media, starts, times, means, parted)


def _joined(
    media: NDArray[np.int64],
    starts: NDArray[np.float64],
    lasts: NDArray[np.float64],
    confidences: NDArray[np.float64],
    parted: NDArray[np.bool_],
) -> Stretches:
    """Neighbours as one, except where they are `parted` from the one before."""
    first = np.concatenate([[0], np.flatnonzero(parted) + 1])
    final = np.append(first[1:], len(media)) - 1
    return Stretches(
        media[first], np.minimum.reduceat(starts, first), lasts[final], np.maximum.reduceat(confidences, first)
    )
