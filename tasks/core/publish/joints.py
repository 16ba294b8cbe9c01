"""Windows that share a stretch of speech, joined on words that were heard alike in both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

from tasks.core.coverage import overlap_s
from tasks.core.schema import HeardWindow, Interval, Segment, TranscriptGap, Word

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Written without spaces between words (whisper.tokenizer.split_to_word_tokens)."""

_LETTERS = re.compile(r"\W+")


class _Joint(NamedTuple):
    """Where one window's text ends and the next one's begins."""

    last_s: float
    """Words of the first window that begin before this are kept."""
    first_s: float
    """Words of the second window that begin from this on are kept."""


def join_text(texts: Sequence[str], language: str | None) -> str:
    """One text from those of segments: with spaces, except in languages written without them."""
    return ("" if language in UNSPACED_LANGUAGES else " ").join(text for text in texts if text)


def join_windows(windows: Sequence[HeardWindow], language: str | None) -> list[Segment]:
    """The segments of windows in order; of a stretch that two share, each word once."""
    joints = [
        _joint(before, after) if before.window.shared_end_s > 0 and after.window.shared_start_s > 0 else None
        for before, after in pairwise(windows)
    ]
    segments: list[Segment] = []
    for number, heard in enumerate(windows):
        first = joints[number - 1] if number else None
        last = joints[number] if number < len(joints) else None
        start, end = first.first_s if first else float("-inf"), last.last_s if last else float("inf")
        kept = (_trimmed(segment, start, end, language) for segment in heard.segments)
        segments += [segment for segment in kept if segment]
    return segments


def uncovered_gaps(windows: Sequence[HeardWindow]) -> list[TranscriptGap]:
    """Gaps of windows in order; of a stretch that two share, what neither has."""
    found: list[TranscriptGap] = []
    for number, heard in enumerate(windows):
        near = [*windows[max(0, number - 1) : number], *windows[number + 1 : number + 2]]
        others = [Interval(start=s.start, end=s.end) for other in near for s in other.segments]
        for gap in heard.gaps:
            is_known = any(gap.start < before.end and before.start < gap.end for before in found)
            if not is_known and overlap_s(gap.start, gap.end, others) < (gap.end - gap.start) / 2:
                found.append(gap)
    return found


def _joint(before: HeardWindow, after: HeardWindow) -> _Joint:
    """At the middle word of the longest run of words that both have; without one, at the middle of the stretch."""
    start, end = after.window.start, before.window.end
    middle = (start + end) / 2
    earlier, later = _words_in(before, start, end), _words_in(after, start, end)
    same = SequenceMatcher(None, list(map(_letters, earlier)), list(map(_letters, later)), autojunk=False)
    match = same.find_longest_match()
    if not match.size:
        return _Joint(middle, middle)
    shared = match.size // 2
    return _Joint(earlier[match.a + shared].start, later[match.b + shared].start)


def _words_in(heard: HeardWindow, start: float, end: float) -> list[Word]:
    words = (word for segment in heard.segments for word in segment.words or [])
    return [word for word in words if start <= (word.start + word.end) / 2 <= end and _letters(word)]


def _letters(word: Word) -> str:
    return _LETTERS.sub("", word.text.casefold())


def _trimmed(segment: Segment, start: float, end: float, language: str | None) -> Segment | None:
    """The segment's words that begin from `start` on and before `end`; None where there are none."""
    words = segment.words or []
    kept = [word for word in words if start <= word.start < end]
    if len(kept) == len(words) and (words or start <= segment.start < end):
        return segment
    if not kept:
        return None
    text = join_text([word.text for word in kept], language)
    return segment.model_copy(update={"start": kept[0].start, "end": kept[-1].end, "text": text, "words": kept})
