"""The NumPy evaluation of Silero VAD against the package's own model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.errors import ModelNotFound
from tasks.core.options import SegmentOptions
from tasks.core.segments import find_speech, segment_speech, silero

Audio = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def audio() -> Audio:
    """5.01 s of gliding, pulsing harmonics: enough like a voice for probabilities between 0 and 1."""
    time = np.arange(80_160) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time)) / 16_000
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    loudness = np.maximum(0, np.sin(2 * np.pi * 1.3 * time)) * (1 + np.sin(2 * np.pi * 4 * time)) / 2
    noise = 0.003 * np.random.default_rng(0).standard_normal(time.size)
    return np.asarray(0.2 * loudness * voice + noise, np.float32)


def test_probabilities_equal_those_of_the_packaged_model(audio: Audio) -> None:
    torch = pytest.importorskip("torch")
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    folder = Path((package.submodule_search_locations or [""])[0])
    model = torch.jit.load(str(folder / "data/silero_vad.jit"))
    chunks = np.pad(audio, (0, -audio.size % 512)).reshape(-1, 512)
    with torch.no_grad():
        expected = np.array([model(torch.from_numpy(chunk), 16_000).item() for chunk in chunks])
    found = silero.speech_probabilities(audio)
    assert expected.max() - expected.min() > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_blocks_carry_state_and_context(audio: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = silero.speech_probabilities(audio)
    monkeypatch.setattr(silero, "BLOCK", 7)
    np.testing.assert_allclose(silero.speech_probabilities(audio), whole, atol=1e-5)


@pytest.mark.parametrize("engine", ["librosa", "silero"])
def test_a_track_is_listened_to_once(engine: str, audio: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SegmentOptions.model_validate({"engine": engine})
    apart = segment_speech(audio, options)
    assert apart
    listen = Mock(wraps=silero.speech_probabilities)
    monkeypatch.setattr(silero, "speech_probabilities", listen)
    assert find_speech(audio, options).segments == apart
    listen.assert_called_once_with(audio)


def test_speech_holds_until_the_probability_is_well_below_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = np.array([0.4, 0.6, 0.4, 0.36, 0.34, 0.4, 0.5, 0.1], np.float32)
    monkeypatch.setattr(silero, "speech_probabilities", lambda _: probabilities)
    speech = silero.activity(np.zeros(1, np.float32), SegmentOptions(threshold=0.5)).speech
    assert speech.tolist() == [False, True, True, True, False, False, True, False]


def test_missing_weights_name_the_file_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelNotFound, match=r"silero_vad_16k_op15\.onnx.*segments\.engine=librosa"):
        silero._weights_file()


def test_a_file_that_is_no_protobuf_is_refused() -> None:
    with pytest.raises((ValueError, IndexError)):
        silero.read_onnx_tensors(b"this is no model")
