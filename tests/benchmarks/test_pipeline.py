"""Sides that found different things are told apart; media and weights made for benchmarks are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._sides import Found, words
from benchmarks.pipeline import check_same, tables, word_distance

SAID = words("The red circle moves right. A green square waits, right?")


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert " ".join(SAID) == "the red circle moves right a green square waits right"


@pytest.mark.parametrize(
    ("one", "other", "apart"), [("a b c", "a b c", 0), ("a b c", "a x c d", 2), ("", "a b", 2), ("b c", "a b c", 1)]
)
def test_word_distance_is_that_of_levenshtein(one: str, other: str, apart: int) -> None:
    assert word_distance(one.split(), other.split()) == apart


def test_one_word_too_few_is_found() -> None:
    with pytest.raises(AssertionError, match="1 of 10 words differ"):
        check_same("script", Found(1.0, {}, SAID[:-1]), Found(1.0, {}, SAID))


@pytest.mark.parametrize(("boxes", "same"), [(100, True), (106, False), (95, True), (94, False)])
def test_boxes_may_differ_by_a_twentieth(boxes: int, same: bool) -> None:
    one, other = Found(1.0, {"person": boxes}), Found(1.0, {"person": 100})
    if same:
        check_same("script", one, other)
        return
    with pytest.raises(AssertionError, match="person"):
        check_same("script", one, other)


def test_a_class_that_only_one_side_sees_is_found() -> None:
    with pytest.raises(AssertionError, match="dog"):
        check_same("script", Found(1.0, {"dog": 3}), Found(1.0))


def test_ratios_are_to_the_first_side() -> None:
    rows = tables({"reelflow": [Found(10.0), Found(14.0)], "plain_script": [Found(36.0)]}, 10.0)[0].rows
    assert [row["times ours"] for row in rows] == [1.0, 3.0]
    assert rows[0]["times real time"] == 50.0


def test_added_layers_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks import _media
    from tasks.core.models import bundled

    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_media, "AUDIO_LAYERS", 6)
    monkeypatch.setattr(_media, "TEXT_LAYERS", 6)
    deep, own = _media.openai_whisper(_media.deep_whisper()), _media.openai_whisper(bundled.SPEECH_CHECKPOINT)
    assert (deep.dims.n_audio_layer, deep.dims.n_text_layer) == (6, 6)
    mel = torch.randn(1, deep.dims.n_mels, 3000, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[50257, 50362, 262, 2266]])
    with torch.no_grad():
        assert torch.equal(deep(mel, tokens), own(mel, tokens))
