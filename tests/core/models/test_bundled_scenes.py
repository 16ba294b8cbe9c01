"""The bundled SigLIP-type model describes drawn pictures and the sample clip rightly, as its card says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tasks.core import text_bank
from tasks.core.bank_vectors import BankVectors, embed_bank
from tasks.core.models import bundled, siglip
from tasks.core.models.training.scenes import PAIRS, UNSEEN, render
from tasks.core.models.training.scenes_eval import shown_in_sample
from tasks.core.models.training.verify import read_frames

MOST_BYTES = 6_000_000
FIGURES: dict[str, Any] = json.loads(bundled.METRICS.read_text())["scenes"]


@pytest.fixture(scope="module")
def model() -> siglip.SiglipModel:
    return siglip.load(bundled.SCENES_MODEL, "cpu")


@pytest.fixture(scope="module")
def seconds(model: siglip.SiglipModel) -> np.ndarray:
    """Vectors of the sample's frames at whole seconds."""
    return model.embed_images(read_frames(bundled.SAMPLE_CLIP))


@pytest.fixture(scope="module")
def bank(model: siglip.SiglipModel) -> BankVectors:
    path = text_bank.resolve_bank("auto", None, bundled=True)
    return embed_bank(text_bank.read_bank(path), model.embed_texts, model.logit_scale, model.logit_bias)


def test_it_is_small_and_holds_no_code() -> None:
    files = sorted(bundled.SCENES_MODEL.iterdir())
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_measured_figures_meet_the_claims() -> None:
    assert FIGURES["single_top1"] >= 0.95
    assert FIGURES["sample_things_right"] == FIGURES["sample_things"] == 7
    assert FIGURES["many_ap"] >= 0.9


def test_single_shapes_are_named(model: siglip.SiglipModel) -> None:
    rng = np.random.default_rng(99)
    known = [pair for pair in PAIRS if pair not in UNSEEN]
    drawn = [render(rng, [pair]) for pair in known for _ in range(2)]
    kept = [(image, scene.objects[0]) for image, scene, _ in drawn if scene.objects]
    texts = model.embed_texts([f"a {colour} {shape}" for colour, shape in PAIRS])
    best = (model.embed_images([image for image, _ in kept]) @ texts.T).argmax(axis=1)
    right = np.mean([PAIRS[number] == pair for number, (_, pair) in zip(best, kept, strict=True)])
    assert right >= 0.9, f"{right:.2f} of {len(kept)}"


@pytest.mark.parametrize("form", ["{}", "a {}", "find the {}", "A photo of a {}.", "{}s"])
def test_text_finds_the_frames_of_the_sample(model: siglip.SiglipModel, seconds: np.ndarray, form: str) -> None:
    shown = shown_in_sample(len(seconds))
    for thing in sorted(set().union(*shown)):
        if form == "{}s" and thing[1] == "cross":
            continue
        cosines = seconds @ model.embed_texts([form.format(" ".join(thing))])[0]
        here = np.array([thing in objects for objects in shown])
        assert cosines[here].min() > cosines[~here].max(), thing


def test_the_sample_has_the_right_tags(bank: BankVectors, seconds: np.ndarray) -> None:
    shown = shown_in_sample(len(seconds))
    named = [{name for _, name in objects} | {f"{colour} shape" for colour, _ in objects} for objects in shown]
    first = [
        {bank.tags[number] for number in np.argsort(-row)[: len(right)]}
        for row, right in zip(seconds @ bank.tag_vectors.T, named, strict=True)
    ]
    found = sum(len(best & right) for best, right in zip(first, named, strict=True)) / sum(map(len, named))
    assert found >= 0.9, f"{found:.2f} of what the seconds show"


def test_captions_say_what_is_there(bank: BankVectors, seconds: np.ndarray) -> None:
    best = [bank.descriptions[number] for number in (seconds @ bank.description_vectors.T).argmax(axis=1)]
    assert set(best[6:13]) == {"a red circle, a green square and a yellow star"}
    assert set(best[13:21]) == {"a blue ring, a purple triangle and an orange cross"}
    assert set(best[21:]) == {"a blue ring, a purple triangle, an orange cross and a black square"}
    assert set(best[:6]) <= {"a red circle and a green square", "a red circle, a green square and a yellow star"}


def test_what_is_never_drawn_is_not_found(model: siglip.SiglipModel, seconds: np.ndarray) -> None:
    strange = seconds @ model.embed_texts(["a dog", "a busy street in the rain", "Fußgänger"]).T
    assert model.probability(strange).max() < 0.5


def test_the_card_names_every_file() -> None:
    card = (bundled.FOLDER / "README.md").read_text()
    for path in bundled.SCENES_MODEL.iterdir():
        assert f"`{path.relative_to(bundled.FOLDER)}`" in card


def test_the_folder_is_as_publishers_lay_it_out() -> None:
    from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessor

    folder = bundled.SCENES_MODEL
    config: Any = SiglipConfig.from_pretrained(folder)
    processor: Any = SiglipImageProcessor.from_pretrained(folder)
    assert processor.size["height"] == config.vision_config.image_size
    assert len(AutoTokenizer.from_pretrained(folder)) == config.text_config.vocab_size
