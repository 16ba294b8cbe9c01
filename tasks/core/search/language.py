"""The question's text: quoted phrases, loose words, a stretch of time, and the objects that it asks for.

    "red circle" jumps                     a phrase and a word
    3 persons, exactly 2 cars              classes, and how many of them at least (or exactly) in one frame
    person and car within 5 s or dog       both within five seconds of each other, or the third
    conf>0.5                               only boxes that the network was surer of
    from 1:00 to 2:30                      only this part of each media

No text is taken for a regular expression, and no expression here can backtrack over more than a few characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import regex  # type: ignore[import-untyped]

from tasks.core.search.query import QueryError, printable
from tasks.core.search.words import STOP, near, words

MOST_COUNT: Final = 999
MOST_WITHIN_S: Final = 3600.0
LEAST_MISSPELT: Final = 4
"""Letters of a word of a class that may be misspelt: many words are near shorter ones."""

_QUOTED: Final = re.compile(r'["“„«]([^"“”„«»]*)["”“»]')
_CONFIDENCE: Final = re.compile(r"\bconf(?:idence)? ?(>=|=>|≥|>|<=|<|=) ?(\d{0,6}\.?\d{1,6}) ?(%?)", re.IGNORECASE)
_CLOCK: Final = r"(\d{1,4}(?::\d{2}){1,2}(?:\.\d{1,3})?|\d{1,6}(?:\.\d{1,3})? ?s(?:ec(?:onds?)?)?)"
_RANGE: Final = re.compile(rf"\bfrom {_CLOCK} ?(?:to|until|-|–) ?{_CLOCK}(?!\w)", re.IGNORECASE)
_WITHIN: Final = re.compile(r"\bwithin (\d{1,5}(?:\.\d{1,3})?) ?(s|secs?|seconds?|m|mins?|minutes?)\b", re.IGNORECASE)
_TOKEN: Final = regex.compile(r"\d+ ?\+|[<>]=?|[,&]|[\w\p{M}]+(?:['’][\w\p{M}]+)?")

_NUMBERS: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12,
}  # fmt: skip
_FILLERS: Final = frozenset((
    "a", "an", "the", "any", "some", "there", "is", "are", "show", "find", "me", "where", "both", "together",
))  # fmt: skip
_NEGATIONS: Final = frozenset(("no", "not", "without", "except", "never"))
_JOINS: Final = frozenset(("and", "with", ",", "&", "+"))
_BOUNDS: Final = (
    (("at", "least"), (0, None)),
    (("at", "most"), (None, 0)),
    (("no", "more", "than"), (None, 0)),
    (("more", "than"), (1, None)),
    (("fewer", "than"), (None, -1)),
    (("less", "than"), (None, -1)),
    (("exactly",), (0, 0)),
    ((">=",), (0, None)),
    (("<=",), (None, 0)),
    ((">",), (1, None)),
    (("<",), (None, -1)),
)
"""Words before a number, and what to add to it for the least and the most; without any it is the least."""

_GRAMMAR: Final = frozenset((
    *STOP, *_NUMBERS, *_FILLERS, *_NEGATIONS, *_JOINS, *(word for before, _ in _BOUNDS for word in before),
    "more", "within",
))  # fmt: skip
"""Words that are never taken for a misspelt class."""

_PLURALS: Final = {
    "person": ("people", "persons"),
    "man": ("men",),
    "woman": ("women",),
    "child": ("children",),
    "mouse": ("mice",),
    "goose": ("geese",),
    "foot": ("feet",),
    "sheep": ("sheep",),
}


@dataclass(frozen=True)
class ObjectTerm:
    """A class, and how many boxes of it one frame has to have."""

    name: str
    least: int = 1
    most: int | None = None

    def __str__(self) -> str:
        if self.least == self.most:
            return f"exactly {self.least} {self.name}"
        low = f"at least {self.least} " if self.least > 1 else ""
        return f"{low}{self.name}" if self.most is None else f"{low}at most {self.most} {self.name}"


@dataclass(frozen=True)
class ObjectQuery:
    alternatives: tuple[tuple[ObjectTerm, ...], ...]
    """Of each, every term has to be seen."""
    within_s: float = 0.0
    """How far apart the terms of an alternative may be seen; 0 asks for one frame."""
    confidence: float = 0.0
    or_equal: bool = True
    complete: bool = True
    """The text asks for nothing else."""


@dataclass(frozen=True)
class Parsed:
    loose: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]
    meaning: str
    """The text without operators and quotes, for a text encoder."""
    objects: ObjectQuery | None
    start_s: float
    end_s: float


def parse(text: str, classes: Iterable[str], is_word: Callable[[str], bool] = lambda word: False) -> Parsed:
    """The parts of a question; `classes` are the names that objects of the corpus have.

    A word within a typing error of a class stands for it, unless `is_word` knows it as it is.
    Raises QueryError for operators whose values make no sense.
    """
    quoted = [part for part in _QUOTED.findall(text) if words(part)]
    rest = _QUOTED.sub(" , ", text)
    confidence, or_equal, rest = _confidence(rest)
    start_s, end_s, rest = _range(rest)
    within_s, without = _within(rest)
    spelled = _spellings(classes)
    objects = _objects(without, spelled, within_s or 0.0, is_word)
    if within_s is not None and objects is not None and any(len(each) > 1 for each in objects.alternatives):
        rest = without
    elif within_s is not None:
        objects = _objects(rest, spelled, 0.0, is_word)
    if confidence is not None:
        if objects is None:
            raise QueryError(f"conf needs a class of objects beside it; {known(classes)}")
        objects = ObjectQuery(objects.alternatives, objects.within_s, confidence, or_equal, objects.complete)
    if objects and quoted:
        objects = ObjectQuery(
            objects.alternatives, objects.within_s, objects.confidence, objects.or_equal, complete=False
        )
    loose, meaning = words(rest), " ".join(" ".join([*quoted, rest.replace(" , ", " ")]).split())
    if not loose and not quoted:
        raise QueryError("Nothing is asked for: write some words beside the conditions.")
    return Parsed(tuple(loose), tuple(tuple(words(part)) for part in quoted), meaning, objects, start_s, end_s)


def known(classes: Iterable[str]) -> str:
    """What there is, as the end of a message."""
    names = sorted(name[:40] for each in classes if (name := printable(each)))
    if not names:
        return "no objects were detected in this store"
    return f"detected here: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"


def _confidence(text: str) -> tuple[float | None, bool, str]:
    found = _CONFIDENCE.search(text)
    if found is None:
        return None, True, text
    sign, number, percent = found.groups()
    value = float(number) / (100 if percent else 1)
    if sign not in (">", ">=", "=>", "≥") or not 0 <= value <= 1:
        raise QueryError(f"{found[0]!r}: write conf>0.5 or conf>=50%, from 0 to 1")
    return value, sign != ">", text[: found.start()] + " , " + text[found.end() :]


def _range(text: str) -> tuple[float, float, str]:
    found = _RANGE.search(text)
    if found is None:
        return 0.0, float("inf"), text
    start, end = map(_seconds, found.groups())
    if start >= end:
        raise QueryError(f"{found[0]!r} ends before it begins; write from 1:00 to 2:00")
    return start, end, text[: found.start()] + " , " + text[found.end() :]


def _seconds(clock: str) -> float:
    total = 0.0
    for part in clock.rstrip(" secondSECOND").split(":"):
        total = total * 60 + float(part)
    return total


def _within(text: str) -> tuple[float | None, str]:
    found = _WITHIN.search(text)
    if found is None:
        return None, text
    seconds = float(found[1]) * (60 if found[2][0].lower() == "m" else 1)
    if not 0 < seconds <= MOST_WITHIN_S:
        raise QueryError(f"{found[0]!r}: write more than 0 s and at most {MOST_WITHIN_S:.0f} s")
    return seconds, text[: found.start()] + " , " + text[found.end() :]


def _spellings(classes: Iterable[str]) -> dict[tuple[str, ...], str]:
    """Words of a class as one may write it, in the singular and the plural."""
    spelled: dict[tuple[str, ...], str] = {}
    for name in sorted(classes):
        *before, last = words(name) or [""]
        for form in _forms(last) if last else ():
            spelled.setdefault((*before, form), name)
    for name in classes:
        if found := tuple(words(name)):
            spelled[found] = name
    return spelled


def _forms(word: str) -> Iterable[str]:
    yield word
    yield from _PLURALS.get(word, ())
    if word.endswith(("s", "x", "z", "ch", "sh")):
        yield word + "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        yield word[:-1] + "ies"
    else:
        yield word + "s"
    if word.endswith("o"):
        yield word + "es"
    if word.endswith("fe"):
        yield word[:-2] + "ves"
    elif word.endswith("f"):
        yield word[:-1] + "ves"
    if word.endswith("s") and not word.endswith("ss"):
        yield word[:-1]


def _objects(
    text: str, spelled: dict[tuple[str, ...], str], within_s: float, is_word: Callable[[str], bool]
) -> ObjectQuery | None:
    tokens = [token.replace(" ", "") for token in _TOKEN.findall(text.casefold())]
    if not _NEGATIONS.isdisjoint(tokens):
        return None
    tokens = _mended(tokens, {word for form in spelled for word in form}, is_word)
    longest = max(map(len, spelled), default=0)
    alternatives: list[list[ObjectTerm]] = [[]]
    complete, at = True, 0
    while at < len(tokens):
        least, most, after = _count(tokens, at)
        name, end = _class(tokens, after, spelled, longest)
        if name is not None:
            if most is not None and most < least:
                raise QueryError(f"{' '.join(tokens[at:end])!r} asks for none; write how many, at least 1")
            alternatives[-1].append(ObjectTerm(name, least, most))
            at = end
        elif tokens[at] == "or" and alternatives[-1]:
            alternatives.append([])
            at += 1
        else:
            complete &= tokens[at] in _JOINS or tokens[at] in _FILLERS
            at += 1
    found = tuple(tuple(dict.fromkeys(each)) for each in alternatives if each)
    return ObjectQuery(found, within_s, complete=complete) if found else None


def _mended(tokens: list[str], known: set[str], is_word: Callable[[str], bool]) -> list[str]:
    """The tokens, with the nearest word of a class in place of each word that is known nowhere."""
    every, long = _GRAMMAR | known, sorted(word for word in known if len(word) >= LEAST_MISSPELT)

    def mend(token: str) -> str:
        match words(token):
            case [word] if word not in every and (nearest := near(word, long)) and not is_word(word):
                return nearest[0][0]
        return token

    return [mend(token) for token in tokens]


def _count(tokens: list[str], at: int) -> tuple[int, int | None, int]:
    """(least, most, where the class begins); without a number at least 1."""
    add_least: int | None = 0
    add_most: int | None = None
    place = at
    for before, bounds in _BOUNDS:
        if tuple(tokens[at : at + len(before)]) == before:
            (add_least, add_most), place = bounds, at + len(before)
            break
    token = tokens[place] if place < len(tokens) else ""
    number = _NUMBERS.get(token.rstrip("+")) or (
        int(token.rstrip("+")) if re.fullmatch(r"[0-9]{1,3}\+?", token) else None
    )
    if number is None:
        return 1, None, at
    place += 1
    if tuple(tokens[place : place + 2]) == ("or", "more"):
        add_most, place = None, place + 2
    least = max(number + add_least, 1) if add_least is not None else 1
    most = number + add_most if add_most is not None else None
    return least, most, place


def _class(tokens: list[str], at: int, spelled: dict[tuple[str, ...], str], longest: int) -> tuple[str | None, int]:
    while at < len(tokens) and tokens[at] in ("a", "an", "the"):
        at += 1
    for length in range(min(longest, len(tokens) - at), 0, -1):
        if name := spelled.get(tuple(w for token in tokens[at : at + length] for w in words(token))):
            return name, at + length
    return None, at
