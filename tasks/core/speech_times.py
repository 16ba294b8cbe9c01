"""Times of segments and words, fitted into the speech that was found.

Whisper's times are those of its attention: in a pause words drift into the silence, and a word may get no length.
Nobody speaks in a pause, so each word lies within one stretch of speech, in order, with some length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tasks.core.schema import Interval, Segment, Word

LEAST_WORD_S = 0.06
"""Length that a word gets at least, where its stretch has room for it."""


def fit(segments: Sequence[Segment], speech: Sequence[Interval]) -> list[Segment]:
    """Segments and their words within `speech` (sorted, disjoint), in order, none of length 0.

    A segment that touches no speech goes to the nearest. Without speech the segments are returned as they are.
    """
    if not speech:
        return list(segments)
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end))
    words = iter(_fit_words([word for segment in ordered for word in segment.words or []], speech))
    fitted: list[Segment] = []
    earliest = 0.0
    for segment in ordered:
        own = [next(words) for _ in segment.words or []]
        if own:
            start, end = own[0].start, own[-1].end
        else:
            start, end = _fit_span(segment.start, segment.end, speech, earliest)
        fitted.append(segment.model_copy(update={"start": start, "end": end, "words": own or segment.words}))
        earliest = end
    return fitted


def _fit_span(start: float, end: float, speech: Sequence[Interval], earliest: float) -> tuple[float, float]:
    touched = [s for s in speech if min(end, s.end) - max(start, earliest, s.start) > 0]
    if not touched:
        touched = [min(speech, key=lambda s: (max(s.start - end, start - s.end, 0.0), s.start))]
    first, last = max(start, earliest, touched[0].start), min(end, touched[-1].end)
    if last - first < LEAST_WORD_S:
        first = max(touched[0].start, min(first, touched[-1].end - LEAST_WORD_S))
        last = max(last, first + LEAST_WORD_S)
    return round(first, 3), round(last, 3)


def _fit_words(words: Sequence[Word], speech: Sequence[Interval]) -> list[Word]:
    places: list[int] = []
    for word in words:
        places.append(max(places[-1] if places else 0, _place(word, speech)))
    fitted: list[Word] = []
    for place, group in groupby(zip(places, words, strict=True), key=lambda pair: pair[0]):
        fitted += _fit_into([word for _, word in group], speech[place].start, speech[place].end)
    return fitted


def _place(word: Word, speech: Sequence[Interval]) -> int:
    """The stretch that a word lies in for the most part, else the nearest one."""

    def apart(stretch: Interval) -> float:
        return max(word.start, stretch.start) - min(word.end, stretch.end)

    return min(range(len(speech)), key=lambda at: (apart(speech[at]), at))


def _fit_into(words: Sequence[Word], start: float, end: float) -> list[Word]:
    """Words between two times, each at least LEAST_WORD_S long, or an equal share where there is no room for that."""
    least = min(LEAST_WORD_S, (end - start) / len(words))
    times: list[tuple[float, float]] = []
    at = start
    for number, word in enumerate(words):
        latest_end = end - least * (len(words) - 1 - number)
        first = min(max(word.start, at), latest_end - least)
        last = min(max(word.end, first + least), latest_end)
        times.append((first, last))
        at = last
    return [
        word.model_copy(update={"start": round(first, 3), "end": round(last, 3)})
        for word, (first, last) in zip(words, times, strict=True)
    ]
