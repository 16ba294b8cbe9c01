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
from collections.abc import Iterator
from typing import Final

from pysubs2 import SSAEvent, SSAFile

from tasks.core.schema import Result, Segment, Word

LINE_CHARACTERS: Final = 42
"""Longest line: what broadcasters' guides (BBC, Netflix) ask for."""

CUE_LINES: Final = 2

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


def cues(segment: Segment) -> Iterator[tuple[float, float, str]]:
    """(start, end, text in one line) of a segment: several where it exceeds two lines and its words are timed."""
    text = " ".join(segment.text.split())
    words = _spans(text, segment.words or [])
    if len(wrap(text)) <= CUE_LINES or not words:
        yield segment.start, segment.end, text
        return
    starts = [0, *(at for at, _ in words[1:]), len(text)]
    first = 0
    for after in range(1, len(words) + 1):
        full = after == len(words) or len(wrap(text[starts[first] : starts[after + 1]].strip())) > CUE_LINES
        if full:
            yield words[first][1].start, words[after - 1][1].end, text[starts[first] : starts[after]].strip()
            first = after


def _spans(text: str, words: list[Word]) -> list[tuple[int, Word]]:
    """Where each word starts in the text; empty when the words are not those of the text."""
    found, position = [], 0
    for word in words:
        token = " ".join(word.text.split())
        if not token:
            continue
        position = text.find(token, position)
        if position < 0:
            return []
        found.append((position, word))
        position += len(token)
    return found


def _file(result: Result, kind: str) -> SSAFile:
    file = SSAFile()
    for segment in result.transcript.segments:
        for start, end, text in cues(segment):
            lines = wrap(plain(text))
            if not lines:
                continue
            if kind == "vtt":
                lines = [html.escape(line, quote=False) for line in lines]
            start_ms = round(start * 1000)
            event = SSAEvent(start=start_ms, end=max(round(end * 1000), start_ms + 1))
            event.plaintext = "\n".join(lines)
            file.append(event)
    file.sort()
    return file
