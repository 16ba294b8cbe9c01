"""Texts about drawn scenes: captions that are true of a scene, texts that are nearly so, and the words in them."""

from __future__ import annotations

import re

import numpy as np

from tasks.core.models.training.drawing import CLASSES
from tasks.core.models.training.scenes import COLOURS, PATTERNS, TONES, Need, Scene, Text

FRAMES = (
    "{}", "{}", "{}", "{}.", "a photo of {}.", "a picture of {}", "a drawing of {}", "a video of {}", "there is {}",
    "a scene with {}", "{} in a video", "an image of {}.", "this is a photo of {}.", "find {}", "where is {}",
)  # fmt: skip
STRANGE = ("dog", "car", "person", "street", "kitchen", "window", "speech", "music", "tree", "house", "walking", "cat")
"""Things that are never drawn: their tokens are the unknown one, and no picture shows what they name."""


def words() -> list[str]:
    """Every word that the texts are made of."""
    plain = "a an the and with of on in next to background something shape shapes nothing empty scene drawn page bright"
    found = {*plain.split(), *COLOURS, *CLASSES, *TONES, *PATTERNS.values(), *(_plural(name) for name in CLASSES)}
    found |= {word for frame in FRAMES for word in re.findall("[a-z]+", frame)}
    return sorted(found)


def pair_text(pair: tuple[str, str], rng: np.random.Generator) -> Text:
    """One thing by colour and shape."""
    return Text(_framed(_name(pair, rng), rng), (pair,))


def caption(scene: Scene, rng: np.random.Generator) -> Text:
    """All that is in a scene, in one sentence."""
    things = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    tone, pattern = (scene.tone, scene.pattern) if rng.random() < 0.6 else (None, None)
    return _sentence(things, tone, pattern, rng)


def part(scene: Scene, rng: np.random.Generator) -> Text:
    """Some of what is in a scene, or one attribute of it."""
    if not scene.objects or ((scene.tone or scene.pattern) and rng.random() < 0.15):
        return _sentence([], scene.tone, scene.pattern, rng)
    things: list[Need] = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    if rng.random() < 0.5:
        colour, shape = things[0]
        things = [(colour, None) if rng.random() < 0.5 else (None, shape)]
    return _sentence(things[: int(rng.integers(1, max(2, len(things))))], None, None, rng)


def near_miss(scene: Scene, known: tuple[tuple[str, str], ...], rng: np.random.Generator) -> Text:
    """A text with one thing changed: colours exchanged, another colour or shape, or something that is never drawn."""
    chance = rng.random()
    if chance < 0.1:
        return Text(_framed("a " + STRANGE[int(rng.integers(len(STRANGE)))], rng), unknown=True)
    things: list[Need] = list(scene.objects)
    if len(things) >= 2 and chance < 0.5:
        (first, one), (second, other) = things[:2]
        changed: list[Need] = [(second, one), (first, other)]
    elif things:
        colour, shape = things[int(rng.integers(len(things)))]
        if rng.random() < 0.5:
            colour = COLOURS[int(rng.integers(len(COLOURS)))]
        else:
            shape = CLASSES[int(rng.integers(len(CLASSES)))]
        changed = [(colour, shape)]
    else:
        changed = [known[int(rng.integers(len(known)))]]
    changed = [need for need in changed if need in known] or [known[int(rng.integers(len(known)))]]
    return _sentence(changed, None, None, rng)


def _sentence(things: list[Need], tone: str | None, pattern: str | None, rng: np.random.Generator) -> Text:
    where = " ".join(word for word in (tone, pattern) if word)
    ground = f"{_article(where)} {where} background" if where else ""
    if not things:
        if ground:
            return Text(_framed(ground, rng, bare=True), (), tone, pattern)
        return Text(
            _framed(("nothing", "an empty scene", "an empty page")[int(rng.integers(3))], rng, bare=True), empty=True
        )
    named = [_name(need, rng) for need in things]
    last = " with " if len(named) == 2 and rng.random() < 0.15 else " and "
    text = ", ".join(named[:-1]) + last + named[-1] if len(named) > 1 else named[0]
    return Text(_framed(f"{text} on {ground}" if ground else text, rng), tuple(things), tone, pattern)


def _name(need: Need, rng: np.random.Generator) -> str:
    colour, shape = need
    if shape is None:
        return (f"something {colour}", f"{_article(colour or '')} {colour} shape", f"{colour}")[int(rng.integers(3))]
    bare = f"{colour} {shape}" if colour else shape
    form = int(rng.integers(6))
    if form == 0:
        return bare
    if form == 1:
        return f"the {bare}"
    if form == 2:
        return f"{colour} {_plural(shape)}" if colour else _plural(shape)
    return f"{_article(bare)} {bare}"


def _framed(text: str, rng: np.random.Generator, bare: bool = False) -> str:
    return text if bare or rng.random() < 0.5 else FRAMES[int(rng.integers(len(FRAMES)))].format(text)


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def _article(word: str) -> str:
    return "an" if word[:1] in ("a", "e", "i", "o", "u") else "a"
