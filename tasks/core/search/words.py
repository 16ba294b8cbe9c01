"""What it means that a text contains a word: folded, stemmed, and within a typo of one that the corpus has.

Both backends find by these definitions, so that both give the same answers. A word of the question that no text has is
taken for a typo; one that some text has is taken as it is.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

import regex  # type: ignore[import-untyped]

from tasks.core.search import korean

LONGEST: Final = 32
"""Characters of a word that count."""

STEMMERS: Final = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Snowball's stemmer for each language of Whisper's that has one."""

STOP: Final = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "had", "has", "have", "he", "her", "his",
    "i", "in", "is", "it", "its", "me", "my", "of", "on", "or", "our", "she", "so", "that", "the", "their", "them",
    "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "will", "with", "you", "your",
))  # fmt: skip
"""English words that a question may hold and a match need not."""

K1: Final = 1.2
B: Final = 0.75
"""BM25's parameters (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework)."""

TYPO: Final = (1.0, 0.6, 0.4)
"""How much a word counts that is 0, 1 or 2 edits away."""

_MOST_TYPOS: Final = 16
_UNSPACED: Final = (
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana and Han are written without spaces."""

_WORD: Final = regex.compile(
    rf"[{_UNSPACED}&&[\p{{L}}\p{{N}}]]\p{{M}}*|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]*",
    regex.V1,
)
"""Letters and digits with the signs that combine with them: vowels of Hindi, Tamil and so on."""

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_LETTERS_WITH_MARKS: Final = frozenset("\u0439\u045e")
"""Cyrillic short i and short u: letters of their own, whose mark is no accent; endings of Russian words have them."""

_APOSTROPHES: Final = frozenset("'\u2019\u02bc\u05f3\u05f4")
_ZERO_WIDTH_SPACE: Final = "\u200b"
_APOSTROPHE: Final = str.maketrans("", "", "'")


class _Folded(dict[int, str]):
    """What each character, by its number, counts as; for str.translate."""

    def __missing__(self, code: int) -> str:
        folded = chr(code).casefold()
        if folded not in _LETTERS_WITH_MARKS:
            parts = unicodedata.normalize("NFKD", folded).casefold()
            folded = unicodedata.normalize("NFC", "".join(part for part in parts if not _is_nothing(part)))
        self[code] = folded
        return folded


def _is_nothing(character: str) -> bool:
    """Does a word stay the same without this character: an accent, a point of Arabic or Hebrew, a nukta, a joiner?

    Other signs that combine are letters in all but name: vowels, viramas, voicing of kana. Unicode tells them apart by
    the combining class: 0 and those of single scripts for signs, 1, 7, 10 to 36 and from 200 on for marks.
    """
    if character in _APOSTROPHES or (unicodedata.category(character) == "Cf" and character != _ZERO_WIDTH_SPACE):
        return True
    placed = unicodedata.combining(character)
    return placed in (1, 7) or 10 <= placed <= 36 or placed >= 200 or "\ufe00" <= character <= "\ufe0f"


_FOLDED: Final = _Folded()

_ONE_AT_A_TIME: Final = threading.Lock()
"""Snowball's stemmers hold the word that they are at."""

Terms = list[str]
"""The stems of a text, in order."""


def words(text: str) -> list[str]:
    """Words without case, accents and apostrophes; in scripts written without spaces, each character is one."""
    if text.isascii():
        found = _ASCII_WORD.findall(text.translate(_APOSTROPHE).lower())
    else:
        plain = unicodedata.normalize("NFC", text).translate(_FOLDED)
        found = _WORD.findall(unicodedata.normalize("NFC", plain))
    return [word[:LONGEST] for word in found]


@lru_cache(maxsize=2**18)
def stem(word: str, language: str | None) -> str:
    """The word's stem in a language (ISO 639-1); the word itself where there is no stemmer for it.

    Hangul is Korean in a text of any language.
    """
    if korean.is_hangul(word):
        return korean.stem(word)
    name = STEMMERS.get(language or "en")
    if name is None:
        return word
    with _ONE_AT_A_TIME:
        return str(_stemmer(name).stemWord(word))


@lru_cache(maxsize=32)
def _stemmer(name: str) -> Any:
    import snowballstemmer  # type: ignore[import-untyped]

    return snowballstemmer.stemmer(name)


def terms_of(text: str, language: str | None) -> Terms:
    return [stem(word, language) for word in words(text)]


def near(word: str, spellings: Sequence[str]) -> list[tuple[str, int]]:
    """Of these spellings those that the word may be a typing error for, and how many edits away; the nearest first.

    One edit in a word of 4 letters, two from 7 on; a number is never a typing error.
    """
    edits = 0 if len(word) < 4 or any(map(str.isdecimal, word)) else 1 if len(word) < 7 else 2
    if not edits:
        return []
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    found = process.extract(word, spellings, scorer=OSA.distance, score_cutoff=edits, limit=_MOST_TYPOS)
    return sorted(((spelling, int(distance)) for spelling, distance, _ in found), key=lambda pair: (pair[1], pair[0]))


@dataclass
class Vocabulary:
    """The words of a corpus: of each (word, language) its stem and the number of texts that have it."""

    entries: dict[tuple[str, str | None], int] = field(default_factory=dict)
    stems: dict[tuple[str, str | None], str] = field(default_factory=dict)
    texts: int = 0
    length: int = 0
    """Words of all texts together."""

    def add(self, text: str, language: str | None, times: int = 1) -> None:
        """Counts a text in, or out with `times` -1."""
        found = words(text)
        self.texts += times
        self.length += times * len(found)
        for word in set(found):
            key = word, language
            count = self.entries.get(key, 0) + times
            if count > 0:
                self.entries[key] = count
                self.stems.setdefault(key, stem(word, language))
            else:
                self.entries.pop(key, None)
                self.stems.pop(key, None)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of texts with each stem; one that has two words of a stem counts twice."""
        counts: Counter[str] = Counter()
        for key, count in self.entries.items():
            counts[self.stems[key]] += count
        return counts

    @cached_property
    def languages(self) -> frozenset[str | None]:
        return frozenset(language for _, language in self.entries)

    @cached_property
    def _spelled(self) -> dict[str, list[str]]:
        """Stems of each word as it is spelled."""
        spelled: dict[str, list[str]] = {}
        for (word, _), stemmed in self.stems.items():
            spelled.setdefault(word, []).append(stemmed)
        return spelled

    @cached_property
    def _spellings(self) -> list[str]:
        return sorted(self._spelled)

    @property
    def mean_length(self) -> float:
        return self.length / self.texts if self.texts else 0.0

    def has(self, word: str) -> bool:
        """Has some text the word, or one with its stem?"""
        return any(self.counts.get(stem(word, language)) for language in self.languages)

    def expand(self, word: str) -> dict[str, float]:
        """Stems that the word may stand for, and how much each counts; none where nothing is near."""
        stems = {stem(word, language) for language in self.languages}
        known = {found: 1.0 for found in stems if self.counts.get(found)}
        return known or self._near(word)

    def _near(self, word: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for spelling, edits in near(word, self._spellings):
            for stemmed in self._spelled[spelling]:
                found.setdefault(stemmed, TYPO[edits])
        return found

    def weight(self, stems: Iterable[str]) -> float:
        """Inverse document frequency of the rarest: ln(1 + (N - n + 0.5) / (n + 0.5)), never below 0.05."""
        least = min((self.counts.get(found, 0) for found in stems), default=0)
        return max(math.log(1 + max(self.texts - least + 0.5, 0.0) / (least + 0.5)), 0.05)


@dataclass(frozen=True)
class Word:
    stems: Mapping[str, float]
    weight: float


@dataclass(frozen=True)
class Wanted:
    """What a text has to have."""

    words: tuple[Word, ...]
    phrases: tuple[tuple[frozenset[str], ...], ...]
    needed: int
    """How many of the words."""
    mean_length: float

    @property
    def stems(self) -> list[str]:
        """Every stem that a matching text may have one of."""
        return sorted({found for word in self.words for found in word.stems})

    def score(self, terms: Sequence[str]) -> float | None:
        """BM25 of a text; None where it does not match."""
        total, found = 0.0, 0
        scale = K1 * (1 - B + B * len(terms) / (self.mean_length or 1.0))
        for word in self.words:
            times = sum(quality * terms.count(each) for each, quality in word.stems.items())
            found += times > 0
            total += word.weight * times * (K1 + 1) / (times + scale)
        if found < self.needed or not all(_has(terms, phrase) for phrase in self.phrases):
            return None
        return total

    def first(self, terms: Sequence[str]) -> int:
        """Position of the first wanted word: where a phrase begins, if there is one."""
        for phrase in self.phrases:
            return next((at for at in range(len(terms)) if _begins(terms, at, phrase)), 0)
        stems = {each for word in self.words for each in word.stems}
        return next((at for at, term in enumerate(terms) if term in stems), 0)


def wanted(loose: Sequence[str], phrases: Sequence[Sequence[str]], vocabulary: Vocabulary) -> Wanted | None:
    """What loose words and phrases ask of a text; None where no text of the corpus can have it.

    Stop words do not count unless there is nothing else. Up to two loose words must all be there, of more two thirds.
    A phrase is matched by stems, in its order, without typos.
    """
    content = [word for word in dict.fromkeys(loose) if word not in STOP] or (
        [] if phrases else list(dict.fromkeys(loose))
    )
    expanded = [vocabulary.expand(word) for word in content]
    needed = len(content) if len(content) <= 2 else math.ceil(2 * len(content) / 3)
    found = [Word(stems, vocabulary.weight(stems)) for stems in expanded if stems]
    rows = tuple(tuple(_stems(word, vocabulary) for word in phrase) for phrase in phrases if phrase)
    if len(found) < needed or not (found or rows) or any(not stems for row in rows for stems in row):
        return None
    spoken = [Word(dict.fromkeys(stems, 1.0), vocabulary.weight(stems)) for row in rows for stems in row]
    return Wanted((*spoken, *found), rows, needed + len(spoken), vocabulary.mean_length)


def _stems(word: str, vocabulary: Vocabulary) -> frozenset[str]:
    return frozenset(s for language in vocabulary.languages if vocabulary.counts.get(s := stem(word, language)))


def _has(terms: Sequence[str], phrase: Sequence[frozenset[str]]) -> bool:
    return any(_begins(terms, at, phrase) for at in range(len(terms) - len(phrase) + 1))


def _begins(terms: Sequence[str], at: int, phrase: Sequence[frozenset[str]]) -> bool:
    return at + len(phrase) <= len(terms) and all(terms[at + n] in stems for n, stems in enumerate(phrase))
