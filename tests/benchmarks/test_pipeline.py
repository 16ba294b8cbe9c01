"""Times are told as ratios; weights made for benchmarks are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._sides import Found
from benchmarks.pipeline import tables


def test_ratios_are_to_the_first_side() -> None:
    said, heard = "a red circle", ["a", "circle"]
    runs = {"reelflow": [Found(10.0, words=heard), Found(14.0)], "plain_script": [Found(36.0)]}
    rows = tables(runs, 10.0, said)[0].rows
    assert [row["times ours"] for row in rows] == [1.0, 3.0]
    assert rows[0]["times real time"] == 50.0
    assert [row["word errors"] for row in rows] == [1, 3]


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
