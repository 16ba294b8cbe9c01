"""What the bundled SigLIP-type model tells apart, measured through the engine that the pipeline uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.models import siglip
from tasks.core.models.training.drawing import PALETTE
from tasks.core.models.training.sample import shapes_at
from tasks.core.models.training.scenes import PAIRS, UNSEEN, render
from tasks.core.models.training.scenes_loss import KNOWN
from tasks.core.models.training.verify import read_frames

SEED_OFFSET = 1_000_003
"""Keeps the measured pictures apart from those of the training's seed."""
PICTURES = 480
COLOUR_NAMES = {paint: name for name, paint in PALETTE.items()}


def measure_scenes(folder: Path, seed: int) -> dict[str, Any]:
    """Figures on new drawings.  Shares are 0 to 1.

    single: one thing in the picture, top 1 among the texts of all 48 pairs.  unseen: the same for pairs that training
    never showed.  many_ap: mean average precision over pairs in pictures of one to four things.  exchanged: a pair of
    things is named rather than the same two with their colours exchanged.
    """
    model = siglip.load(folder, "cpu")
    rng = np.random.default_rng(seed + SEED_OFFSET)
    texts = model.embed_texts([f"a {colour} {shape}" for colour, shape in PAIRS])

    def top(pairs: tuple[tuple[str, str], ...], count: int) -> float:
        wanted: list[int] = []
        images: list[np.ndarray] = []
        while len(images) < count:
            pair = pairs[len(images) % len(pairs)]
            image, scene, _ = render(rng, [pair])
            if scene.objects:
                wanted.append(PAIRS.index(pair))
                images.append(image)
        return float(((model.embed_images(images) @ texts.T).argmax(axis=1) == np.array(wanted)).mean())

    figures: dict[str, Any] = {"single_top1": top(KNOWN, PICTURES), "unseen_pairs_top1": top(UNSEEN, PICTURES // 2)}
    drawn = [render(rng, pairs=KNOWN) for _ in range(PICTURES)]
    scores = model.embed_images([image for image, _, _ in drawn]) @ texts.T
    truth = np.array([[pair in scene.objects for pair in PAIRS] for _, scene, _ in drawn])
    known = [number for number, pair in enumerate(PAIRS) if pair in KNOWN]
    figures["many_ap"] = float(np.mean([_average_precision(scores[:, n], truth[:, n]) for n in known]))
    figures["probability_right"] = float(((model.probability(scores) >= 0.5) == truth)[:, known].mean())
    figures["exchanged_right"] = _exchanged(model, rng)
    return {name: round(value, 4) for name, value in figures.items()} | {"pictures": PICTURES}


def shown_in_sample(count: int) -> list[set[tuple[str, str]]]:
    """Colour and shape of everything that the sample clip shows at the first `count` whole seconds."""
    return [{(COLOUR_NAMES[shape.colour], shape.name) for shape in shapes_at(float(time))} for time in range(count)]


def verify_scenes_sample(folder: Path, clip: Path) -> dict[str, Any]:
    """Figures of the model on the sample clip's frames at whole seconds.

    A thing is right where every frame that shows it has a higher cosine with its text than any other frame;
    `sample_lowest_margin` is the smallest difference.  A frame is right where the texts that rank first are those of
    the things in it.
    """
    model = siglip.load(folder, "cpu")
    frames = read_frames(clip)
    shown = shown_in_sample(len(frames))
    cosines = model.embed_images(frames) @ model.embed_texts([f"a {colour} {shape}" for colour, shape in PAIRS]).T
    margins = []
    for thing in set().union(*shown):
        here = np.array([thing in objects for objects in shown])
        of_thing = cosines[:, PAIRS.index(thing)]
        margins.append(float(of_thing[here].min() - of_thing[~here].max()))
    first = [{PAIRS[n] for n in np.argsort(-row)[: len(objects)]} for row, objects in zip(cosines, shown, strict=True)]
    return {
        "sample_things": len(margins),
        "sample_things_right": sum(margin > 0 for margin in margins),
        "sample_lowest_margin": round(min(margins), 3),
        "sample_frames": len(frames),
        "sample_frames_right": sum(best == objects for best, objects in zip(first, shown, strict=True)),
    }


def _exchanged(model: siglip.SiglipModel, rng: np.random.Generator) -> float:
    images: list[np.ndarray] = []
    pairs = []
    while len(images) < PICTURES // 2:
        image, scene, _ = render(rng, pairs=KNOWN)
        found = list(dict.fromkeys(scene.objects))[:2]
        if len(found) < 2:
            continue
        (one, first), (other, second) = found
        changed = ((other, first), (one, second))
        if one != other and first != second and not set(changed) & {*scene.objects, *UNSEEN}:
            images.append(image)
            pairs.append((found, changed))
    said = [[" and ".join(f"a {colour} {shape}" for colour, shape in way) for way in both] for both in pairs]
    right = model.embed_texts([text for text, _ in said])
    wrong = model.embed_texts([text for _, text in said])
    seen = model.embed_images(images)
    return float(((seen * right).sum(axis=1) > (seen * wrong).sum(axis=1)).mean())


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    hits = truth[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()) if hits.any() else 1.0
