"""Korean words without the particles that are written at their ends, as in 번역을, 번역에서는: Snowball has no Korean.

Many particles have two forms, one after a final consonant and one after a vowel: what stands after the other sound is
part of the word (마을, 국가). What is short and often ends a word (회의, 도로) is taken for a particle only after two
syllables. A word that ends like a particle all the same loses its end everywhere, in texts and questions alike.
"""

from __future__ import annotations

from typing import Final

_FIRST, _LAST = "가", "힣"
_FINALS: Final = 28
"""Syllables that differ in their final consonant only follow each other: none, then 27 of them."""

_RIEUL: Final = 8

_AFTER_CONSONANT: Final = ("을", "은", "이", "과", "으로", "이나", "이랑", "이에요", "이다")
_AFTER_VOWEL: Final = ("를", "는", "가", "와", "랑", "예요")
_AFTER_BOTH: Final = (
    "에", "에서", "에게", "에게서", "한테", "한테서", "께서", "까지", "부터", "처럼", "마다", "조차", "밖에", "입니다",
)  # fmt: skip
_AFTER_TWO: Final = ("의", "도", "만", "들", "로", "보다", "하고", "으로서", "으로써", "로서", "로써")

_PARTICLES: Final = sorted((*_AFTER_CONSONANT, *_AFTER_VOWEL, *_AFTER_BOTH, *_AFTER_TWO), key=len, reverse=True)


def is_hangul(word: str) -> bool:
    """Does a word end in a syllable of Hangul?"""
    return _FIRST <= word[-1:] <= _LAST


def stem(word: str) -> str:
    """The word without any particle at its end."""
    for particle in _PARTICLES:
        if word.endswith(particle) and _may_follow(particle, word[: -len(particle)]):
            return stem(word[: -len(particle)])
    return word


def _may_follow(particle: str, word: str) -> bool:
    if not is_hangul(word):
        return len(word) > (particle in _AFTER_TWO)
    final = (ord(word[-1]) - ord(_FIRST)) % _FINALS
    if particle in _AFTER_CONSONANT:
        return final != 0
    if particle in _AFTER_VOWEL:
        return final == 0
    if particle in _AFTER_BOTH:
        return True
    return len(word) > 1 and (particle not in ("로", "로서", "로써") or final in (0, _RIEUL))
