"""Which speech has text: stretches where a voice was found and no segment lies, and texts where no voice is.

Times are seconds on any one clock. A segment's times are the model's own, right to half a second or so: what counts as
uncovered is a whole stretch of speech that hardly any segment touches, or a long rest of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tasks.core.schema import Interval, Segment, Word

LEAST_S = 0.5
"""Shorter stretches are left alone: with their padding they hold a cough, or a syllable of what has text."""
REST_S = 1.5
"""Part of a stretch that has no text although the stretch has some; less is the model's inexact time."""
TOUCHED = 0.3
"""Share of a stretch under segments from which it counts as one that has text."""

SPARSE_PER_S = 9.0
"""Characters per second of speech below which a text may stand on a part of its speech only; usual are 12 to 15."""
HARDLY_ANY_PER_S = 3.0
"""The same for a single long stretch, which may be spoken slowly."""

_WORD = re.compile(r"\w+")


def uncovered(speech: Iterable[Interval], segments: Iterable[Interval | Segment]) -> list[Interval]:
    """Stretches of speech without text, sorted. `speech` is sorted and disjoint."""
    covered = sorted((segment.start, segment.end) for segment in segments)
    found = []
    for stretch in speech:
        rests = _without(stretch, covered)
        left = sum(rest.duration_s for rest in rests)
        if left > (1 - TOUCHED) * stretch.duration_s:
            found += [stretch] if stretch.duration_s >= LEAST_S else []
        else:
            found += [rest for rest in rests if rest.duration_s >= REST_S]
    return found


def is_sparse(start: float, end: float, text: str, speech: Sequence[Interval]) -> bool:
    """Is it likely that a part of the speech under a text has nothing to do with it?"""
    under = [part for part in within(speech, start, end) if part.duration_s >= LEAST_S]
    spoken_s, letters = sum(part.duration_s for part in under), len(text.strip())
    return (len(under) > 1 and letters < SPARSE_PER_S * spoken_s) or (
        spoken_s > 2 * REST_S and letters < HARDLY_ANY_PER_S * spoken_s
    )


def covered(segments: Iterable[Segment]) -> list[Interval]:
    """Where the text of segments lies: on their words where those have times."""
    found: list[Interval] = []
    for segment in segments:
        parts: Sequence[Segment | Word] = segment.words or [segment]
        found += [Interval(start=part.start, end=part.end) for part in parts]
    return found


def sentences(speech: Sequence[Interval], segments: Sequence[Segment]) -> list[tuple[Interval, list[Segment]]]:
    """Stretches of speech with the segments on them, where pauses part both: (from first to last speech, segments)."""
    found: list[tuple[Interval, list[Segment]]] = []
    for segment in sorted(segments, key=lambda s: (s.start, s.end)):
        own = [s for s in speech if overlap_s(segment.start, segment.end, [s]) > s.duration_s / 2]
        if not own:
            continue
        stretch = Interval(start=own[0].start, end=own[-1].end)
        if found and stretch.start < found[-1][0].end:
            last, others = found.pop()
            stretch = Interval(start=last.start, end=max(last.end, stretch.end))
            found.append((stretch, [*others, segment]))
        else:
            found.append((stretch, [segment]))
    return found


def overlap_s(start: float, end: float, speech: Iterable[Interval]) -> float:
    """Seconds of speech from `start` to `end`."""
    return sum(max(0.0, min(end, stretch.end) - max(start, stretch.start)) for stretch in speech)


def within(speech: Sequence[Interval], start: float, end: float) -> list[Interval]:
    """The parts of speech from `start` to `end`."""
    return [
        Interval(start=max(start, stretch.start), end=min(end, stretch.end))
        for stretch in speech
        if stretch.start < end and start < stretch.end
    ]


def repeats(text: str, before: str, after: str) -> bool:
    """Does text say again how `before` ends or how `after` begins? Then its sound was only timed wrong."""
    said, last, following = (_WORD.findall(part.casefold()) for part in (text, before, after))
    return not said or last[-len(said) :] == said or following[: len(said)] == said


def _without(stretch: Interval, covered: Sequence[tuple[float, float]]) -> list[Interval]:
    rests = []
    at = stretch.start
    for start, end in covered:
        if start > at and at < stretch.end:
            rests.append(Interval(start=at, end=min(start, stretch.end)))
        at = max(at, end)
    if at < stretch.end:
        rests.append(Interval(start=at, end=stretch.end))
    return rests
