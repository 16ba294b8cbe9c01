"""SRT and WebVTT subtitles of a transcript.

Neither format lets text be quoted in full: `-->` ends a WebVTT cue, players read `<i>` and ASS overrides such as
`{\\an8}` as formatting. Characters that would start such a construct are replaced by their full-width look-alikes, so
that what was said stays readable and stays text in every player.
"""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pysubs2 import SSAEvent, SSAFile

from tasks.core.schema import Result, Segment, Word

LINE_CHARACTERS: Final = 42
"""Longest line: what broadcasters' guides (BBC, Netflix) ask for."""

CUE_LINES: Final = 2

CHARACTERS_PER_S: Final = 20
"""Fastest text that is read with ease (Netflix: 20 for adults)."""

LINGER_S: Final = 0.1
"""So long a cue may stay after its speech, which itself ends with up to 0.2 s of silence (segments.pad_s)."""

LEAST_S: Final = 0.001


class Cue(NamedTuple):
    """What is shown at a time, in one line of text."""

    start: float
    end: float
    text: str


_LOOKALIKES: Final = str.maketrans({"{": "\uff5b", "}": "\uff5d", "\\": "\uff3c"})
_TAG: Final = re.compile(r"<(?=\s*[a-zA-Z/!?][^>]*>)")


def srt(result: Result) -> str:
    """SubRip text, UTF-8 to be; empty when nothing was said."""
    return _file(result, "srt").to_string("srt", apply_styles=False)


def vtt(result: Result) -> str:
    """WebVTT text; `&` and `<` are character references, as the format wants it."""
    return _file(result, "vtt").to_string("vtt", apply_styles=False)


def plain(text: str) -> str:
    """One line of text without control characters, and nothing in it that a subtitle player would act on."""
    line = "".join(character for character in " ".join(text.split()) if unicodedata.category(character) != "Cc")
    return _TAG.sub("\uff1c", line.replace("-->", "--\uff1e")).translate(_LOOKALIKES)


def wrap(text: str) -> list[str]:
    """Lines of at most 42 characters; two lines are balanced, and a last line is never a bare number.

    (Parsers of SRT take a last line of digits for the number of the next cue.)
    """
    lines = textwrap.wrap(text, LINE_CHARACTERS, break_on_hyphens=False)
    if len(lines) == CUE_LINES:
        breaks = [at for at, character in enumerate(text) if character == " "]
        if breaks:
            middle = min(breaks, key=lambda at: abs(at - len(text) / 2))
            halves = [text[:middle], text[middle + 1 :]]
            if max(map(len, halves)) <= LINE_CHARACTERS:
                lines = halves
    if len(lines) > 1 and lines[-1].strip().isdigit():
        lines[-2:] = [" ".join(lines[-2:])]
    return lines


def cues(segment: Segment) -> Iterator[Cue]:
    """A segment as cues of at most two lines, timed by its words, or by its characters where words have no times."""
    text = " ".join(segment.text.split())
    spans = _spans(text, segment.words or []) or _spread(text, segment)
    if len(wrap(text)) <= CUE_LINES or not spans:
        yield Cue(segment.start, segment.end, text)
        return
    starts = [0, *(at for at, _, _ in spans[1:]), len(text)]
    first = 0
    for after in range(1, len(spans) + 1):
        full = after == len(spans) or len(wrap(text[starts[first] : starts[after + 1]].strip())) > CUE_LINES
        if full:
            yield Cue(spans[first][1], spans[after - 1][2], text[starts[first] : starts[after]].strip())
            first = after


def readable(found: Sequence[Cue]) -> list[Cue]:
    """Cues in order, none over the next, each long enough to be read where the speech leaves room for that.

    A cue may stay for LINGER_S after the speech, and not into the next one: speech that is faster than
    CHARACTERS_PER_S is shown as fast as it is spoken.
    """
    ordered = sorted(found, key=lambda cue: (cue.start, cue.end))
    shown: list[Cue] = []
    for number, cue in enumerate(ordered):
        latest = ordered[number + 1].start if number + 1 < len(ordered) else float("inf")
        wanted = cue.start + len(cue.text) / CHARACTERS_PER_S
        end = min(max(cue.end, min(wanted, cue.end + LINGER_S)), max(latest, cue.start + LEAST_S))
        start = max(cue.start, shown[-1].end) if shown else cue.start
        shown.append(Cue(start, max(end, start + LEAST_S), cue.text))
    return shown


def _spread(text: str, segment: Segment) -> list[tuple[int, float, float]]:
    """Where each word starts in the text, and its times if every character took equally long."""
    second = (segment.end - segment.start) / max(1, len(text))
    words = re.finditer(rf"\S{{1,{LINE_CHARACTERS}}}", text)  # text without spaces has no words that could be seen
    return [(w.start(), segment.start + w.start() * second, segment.start + w.end() * second) for w in words]


def _spans(text: str, words: Sequence[Word]) -> list[tuple[int, float, float]]:
    """Where each word starts in the text, and its times; empty when the words are not those of the text."""
    found, position = [], 0
    for word in words:
        token = " ".join(word.text.split())
        if not token:
            continue
        position = text.find(token, position)
        if position < 0:
            return []
        found.append((position, word.start, word.end))
        position += len(token)
    return found


def _file(result: Result, kind: str) -> SSAFile:
    file = SSAFile()
    for cue in readable([cue for segment in result.transcript.segments for cue in cues(segment)]):
        lines = wrap(plain(cue.text))
        if not lines:
            continue
        if kind == "vtt":
            lines = [html.escape(line, quote=False) for line in lines]
        start_ms = round(cue.start * 1000)
        event = SSAEvent(start=start_ms, end=max(round(cue.end * 1000), start_ms + 1))
        event.plaintext = "\n".join(lines)
        file.append(event)
    file.sort()
    return file
