"""Drawn scenes and texts about them: what is said to be true is true, and what is held out never appears."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from tasks.core.models.training.muon import orthogonal
from tasks.core.models.training.scenes import PAIRS, UNSEEN, Scene, Text, render
from tasks.core.models.training.scenes_loss import GRID, KNOWN, patch_labels
from tasks.core.models.training.scenes_model import make_tokenizer, tokens
from tasks.core.models.training.scenes_text import STRANGE, caption, near_miss, pair_text, part, words

ONE = Scene((("red", "circle"), ("green", "square")), "dark", None)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        (Text("", (("red", "circle"),)), True),
        (Text("", (("red", "square"),)), False),
        (Text("", (("red", None), (None, "square"))), True),
        (Text("", (("red", "circle"), ("blue", "ring"))), False),
        (Text("", (("green", "square"),), tone="dark"), True),
        (Text("", (("green", "square"),), tone="light"), False),
        (Text("", (), pattern="striped"), False),
        (Text("", empty=True), False),
        (Text("", unknown=True), False),
        (Text(""), True),
    ],
)
def test_a_text_holds_where_all_that_it_says_is_there(text: Text, truth: bool) -> None:
    assert text.holds(ONE) is truth


def test_captions_are_true_and_say_everything() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        _, scene, _ = render(rng, pairs=KNOWN)
        said = caption(scene, rng)
        assert said.holds(scene), (said, scene)
        assert part(scene, rng).holds(scene)
        assert set(said.needs) == set(scene.objects)
        for colour, shape in scene.objects:
            assert re.search(rf"\b{colour} {shape}", said.text), (said.text, scene)


def test_near_misses_are_mostly_false() -> None:
    rng = np.random.default_rng(5)
    scenes = [render(rng, pairs=KNOWN)[1] for _ in range(200)]
    assert sum(near_miss(scene, KNOWN, rng).holds(scene) for scene in scenes) < 60


def test_held_out_pairs_are_neither_drawn_nor_named() -> None:
    rng = np.random.default_rng(6)
    assert set(KNOWN) | set(UNSEEN) == set(PAIRS)
    for _ in range(200):
        _, scene, _ = render(rng, pairs=KNOWN)
        said = [caption(scene, rng), part(scene, rng), near_miss(scene, KNOWN, rng), pair_text(KNOWN[0], rng)]
        assert not set(scene.objects) & set(UNSEEN)
        for colour, shape in UNSEEN:
            assert not any(f"{colour} {shape}" in text.text for text in said)


def test_every_word_has_a_token_and_strangers_share_one() -> None:
    tokenizer = make_tokenizer()
    unknown = tokenizer.unk_token_id
    rng = np.random.default_rng(7)
    for _ in range(100):
        _, scene, _ = render(rng, pairs=KNOWN)
        said = caption(scene, rng).text
        assert unknown not in tokens(tokenizer, [said]), said
        assert tokenizer.eos_token_id in tokens(tokenizer, [said]), f"cut: {said}"
    assert not set(STRANGE) & set(words())
    assert (tokens(tokenizer, ["Dog!"]) == tokens(tokenizer, ["cat"])).all()


def test_patches_are_labelled_by_what_covers_them() -> None:
    owner = np.full((144, 256), -1, np.int16)
    owner[:36, :64] = 1
    labels = patch_labels(ONE, owner)
    assert labels.shape == (2, GRID, GRID)
    quarter = GRID // 4
    assert (labels[:, :quarter, :quarter] > 0).all()
    assert len(np.unique(labels[:, :quarter, :quarter].reshape(2, -1), axis=1).T) == 1
    assert (labels[:, quarter:] == 0).all()
    assert (labels[:, :, quarter:] == 0).all()


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (20, 20)])
def test_an_update_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert 0.3 < float(values.min()) < float(values.max()) < 1.3
