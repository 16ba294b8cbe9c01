"""Word errors of a transcript, and which of the sentences that were spoken it has lost.

Reference and transcript go through whisper's normaliser for English (spelling, numbers, fillers, punctuation), each
sentence and each segment by itself, and are aligned with the fewest words substituted, inserted and deleted. Of all
such alignments the one with the most words in their places counts: a word is in its place where the time of its
segment and that of its sentence overlap, with TOLERANCE_S to spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks._sides import Segment

TOLERANCE_S = 1.0
LONG_WORDS = 4
"""Sentences of fewer words can't be lost: a letter or a number is too little to tell."""
FOUND_SHARE = 0.5
"""Of a sentence's words, so many in their places are enough."""


@dataclass(frozen=True)
class Sentence:
    """What is said from `start` to `end`, seconds."""

    name: str
    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Score:
    """What is wrong with one transcript; `lost` holds the names of sentences."""

    words: int
    errors: int
    lost: Sequence[str]


def score(spoken: Sequence[Sentence], heard: Sequence[Segment]) -> Score:
    """Compares one recording's transcript with what was said there. `spoken` and `heard` are in order of time."""
    reference = [(word, number) for number, part in enumerate(spoken) for word in normal_words(part.text)]
    transcript = [(word, number) for number, part in enumerate(heard) for word in normal_words(part[2])]

    def placed(sentence: int, segment: int) -> bool:
        start, end, _ = heard[segment]
        return start <= spoken[sentence].end + TOLERANCE_S and end >= spoken[sentence].start - TOLERANCE_S

    errors, matched = align(reference, transcript, placed)
    lengths = [sum(number == sentence for _, number in reference) for sentence in range(len(spoken))]
    lost = [
        part.name
        for number, part in enumerate(spoken)
        if lengths[number] >= LONG_WORDS and matched[number] < FOUND_SHARE * lengths[number]
    ]
    return Score(len(reference), errors, lost)


def word_errors(reference: str, transcript: str) -> tuple[int, int]:
    """(errors, words of the reference), whatever the times."""
    from rapidfuzz.distance import Levenshtein

    said = normal_words(reference)
    return Levenshtein.distance(said, normal_words(transcript)), len(said)


def align(
    reference: Sequence[tuple[str, int]], transcript: Sequence[tuple[str, int]], placed: Any
) -> tuple[int, list[int]]:
    """Fewest edits between two lists of (word, number of its part), and words in their places by part of the reference.

    `placed(reference part, transcript part)` tells whether a word of the one may stand in the other.
    """
    edit = len(reference) + 1  # dearer than any number of places: these only choose among the shortest
    costs = [[edit * column for column in range(len(transcript) + 1)]]
    for row, (word, part) in enumerate(reference, 1):
        above, line = costs[-1], [edit * row]
        for column, (other, place) in enumerate(transcript, 1):
            both = above[column - 1] + (edit if word != other else -placed(part, place))
            line.append(min(both, above[column] + edit, line[-1] + edit))
        costs.append(line)
    matched = [0] * (max((part for _, part in reference), default=-1) + 1)
    errors, row, column = 0, len(reference), len(transcript)
    while row and column:
        (word, part), (other, place) = reference[row - 1], transcript[column - 1]
        same, here = word == other, placed(part, transcript[column - 1][1])
        if costs[row][column] == costs[row - 1][column - 1] + (-here if same else edit):
            matched[part] += same and here
            errors += not same
            row, column = row - 1, column - 1
            continue
        errors += 1
        up = costs[row][column] == costs[row - 1][column] + edit
        row, column = (row - 1, column) if up else (row, column - 1)
    return errors + row + column, matched


def normal_words(text: str) -> list[str]:
    """Words as whisper's English normaliser writes them."""
    words: list[str] = _normaliser()(text).split()
    return words


@cache
def _normaliser() -> Any:
    from whisper.normalizers import EnglishTextNormalizer

    return EnglishTextNormalizer()
