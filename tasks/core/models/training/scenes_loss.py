"""What the bundled SigLIP-type model is trained by: texts whose truth in every picture is known, and patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.core.models.training.drawing import CLASSES
from tasks.core.models.training.scenes import COLOURS, PAIRS, UNSEEN, Scene, Text, render
from tasks.core.models.training.scenes_model import IMAGE_SIZE, PATCH_SIZE, pixels, tokens
from tasks.core.models.training.scenes_text import caption, near_miss, pair_text, part

KNOWN = tuple(pair for pair in PAIRS if pair not in UNSEEN)
NOTHING, UNCERTAIN = 0, -100
COVERED, TOUCHED = 0.25, 0.03
"""Share of a patch that an object covers, from which the patch shows it, or shows nothing below."""
GRID = IMAGE_SIZE // PATCH_SIZE


@dataclass(frozen=True)
class Claims:
    """Texts of each step beside the captions of its pictures."""

    pairs: int
    """Single things."""
    parts: int
    near_misses: int


@dataclass(frozen=True)
class Drawn:
    """A training picture, ready for the network."""

    scene: Scene
    pixels: Any
    """uint8 (3, IMAGE_SIZE, IMAGE_SIZE)."""
    labels: np.ndarray
    """See patch_labels."""


def draw(rng: np.random.Generator) -> Drawn:
    """A new picture of things that training may show."""
    image, scene, owner = render(rng, pairs=KNOWN)
    return Drawn(scene, pixels(image), patch_labels(scene, owner))


def losses(
    model: Any, tokenizer: Any, heads: Any, drawn: list[Drawn], rng: np.random.Generator, texts: Claims | None
) -> dict[str, Any]:
    """Named losses of one step: what the patches show, and which texts are true."""
    import torch
    import torch.nn.functional as F

    scenes = [one.scene for one in drawn]
    images = torch.stack([one.pixels for one in drawn]).float().div_(127.5).sub_(1)
    labels = torch.from_numpy(np.stack([one.labels for one in drawn]))
    if rng.random() < 0.5:
        images, labels = images.flip(-1), labels.flip(-1)
    if rng.random() < 0.5:
        images, labels = images.flip(-2), labels.flip(-2)
    seen = model.vision_model(images)
    named = _patch_losses(heads, seen.last_hidden_state, labels)
    if texts is None:
        return named
    captions = [caption(scene, rng) for scene in scenes]
    claims = [*captions, *_claims(scenes, texts, rng)]
    said = model.text_model(tokens(tokenizer, [text.text for text in claims])).pooler_output
    cosines = F.normalize(seen.pooler_output, dim=-1) @ F.normalize(said, dim=-1).T
    logits = cosines * model.logit_scale.exp() + model.logit_bias
    truth = torch.from_numpy(_truth(claims, scenes))
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    sigmoid = (each * truth).sum() / truth.sum() + (each * (1 - truth)).sum() / (1 - truth).sum()
    # Of the texts that are true, the caption that says it all is the best one: other captions of the batch, and those
    # that are about the same things, do not compete.
    rivals = torch.from_numpy(_rivals(captions, scenes))
    ranked = logits[:, : len(scenes)].masked_fill(~rivals, -1e4)
    best = F.cross_entropy(ranked, torch.arange(len(scenes)))
    return named | {"sigmoid": sigmoid, "caption": 0.2 * best}


def _patch_losses(heads: Any, features: Any, labels: Any) -> dict[str, Any]:
    import torch.nn.functional as F

    colour, shape = heads(features).split([1 + len(COLOURS), 1 + len(CLASSES)], dim=-1)
    guesses = {"colour": colour.flatten(0, 1), "shape": shape.flatten(0, 1)}
    true = {name: labels[:, number].flatten() for number, name in enumerate(guesses)}
    ground = sum(F.cross_entropy(guesses[name], true[name], ignore_index=UNCERTAIN) for name in guesses)
    there = true["shape"] > NOTHING
    return {"ground": ground} | {name: F.cross_entropy(guesses[name][there], true[name][there]) for name in guesses}


def _claims(scenes: list[Scene], how: Claims, rng: np.random.Generator) -> list[Text]:
    pairs = [pair_text(KNOWN[i], rng) for i in rng.permutation(len(KNOWN))[: how.pairs]]
    parts = [part(scenes[i], rng) for i in rng.permutation(len(scenes))[: how.parts]]
    return [
        *pairs,
        *parts,
        *(near_miss(scenes[i], KNOWN, rng) for i in rng.permutation(len(scenes))[: how.near_misses]),
    ]


def _truth(texts: list[Text], scenes: list[Scene]) -> np.ndarray:
    return np.array([[text.holds(scene) for text in texts] for scene in scenes], np.float32)


def _rivals(captions: list[Text], scenes: list[Scene]) -> np.ndarray:
    """(B, B) bool: captions that say less of a scene than its own, or something else, and the own one."""
    same = np.array([[set(text.needs) == set(scene.objects) for text in captions] for scene in scenes])
    return ~same | np.eye(len(scenes), dtype=bool)


def patch_labels(scene: Scene, owner: np.ndarray) -> np.ndarray:
    """(2, GRID, GRID) int64: number of the colour and of the shape that each patch shows, 0 for none."""
    import cv2

    shares = np.zeros((len(scene.objects) + 1, GRID, GRID), np.float32)
    for number in range(len(scene.objects)):
        covered = (owner == number).astype(np.float32)
        shares[number + 1] = cv2.resize(covered, (GRID, GRID), interpolation=cv2.INTER_AREA)
    most, share = shares.argmax(axis=0), shares.max(axis=0)
    colours = np.array([0, *(1 + COLOURS.index(colour) for colour, _ in scene.objects)])
    shapes = np.array([0, *(1 + CLASSES.index(shape) for _, shape in scene.objects)])
    labels = np.stack([colours[most], shapes[most]]).astype(np.int64)
    labels[:, share < TOUCHED] = NOTHING
    labels[:, (share >= TOUCHED) & (share < COVERED)] = UNCERTAIN
    return labels
