"""The bundled files do what their card says, through openai-whisper's and ultralytics' own code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.models import bundled

MOST_BYTES = 12_000_000
MOST_CLIP_BYTES = 1_000_000
CONFIDENCE, IMAGE_SIZE = 0.35, 320
SEGMENT_TOLERANCE_S = 0.15

TRUTH: dict[str, Any] = json.loads(bundled.SAMPLE_TRUTH.read_text())
METRICS: dict[str, Any] = json.loads(bundled.METRICS.read_text())
CARD = (bundled.FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def whisper_model() -> Any:
    import torch
    from whisper.model import ModelDimensions, Whisper

    checkpoint = torch.load(bundled.SPEECH_CHECKPOINT, map_location="cpu", weights_only=True)
    full = bundled.expand_checkpoint(checkpoint)
    model = Whisper(ModelDimensions(**full["dims"]))
    model.load_state_dict(full["model_state_dict"])
    return model.eval()


@pytest.fixture(scope="module")
def sound() -> Any:
    import av
    import numpy as np

    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(bundled.SAMPLE_CLIP)) as container:
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", sorted(METRICS["files"]))
def test_digest_and_size_are_those_of_the_card(name: str) -> None:
    data = (bundled.FOLDER / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert METRICS["files"][name] == {"sha256": digest, "bytes": len(data)}
    assert digest in CARD


def test_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in bundled.FOLDER.rglob("*") if path.is_file()}
    assert sizes["sample.mp4"] <= MOST_CLIP_BYTES
    assert sum(sizes.values()) <= MOST_BYTES


def test_measured_figures_meet_the_claims() -> None:
    speech = METRICS["speech"]
    kinds = ("wer", "wer_one_sentence", "wer_eight_sentences", "wer_beam5")
    assert all(speech[kind] <= 0.05 for kind in kinds), {kind: speech[kind] for kind in kinds}
    assert speech["wer_late_start"] <= 0.06
    assert speech["silence_false_positives"] <= 0.02 * speech["silence_windows"]
    assert METRICS["shapes"]["map50"] >= 0.9
    assert METRICS["sample"]["word_errors"] == METRICS["sample"]["frames_wrong"] == 0


def test_compact_checkpoint_keeps_unknown_words_silent(whisper_model: Any) -> None:
    import torch

    audio = torch.zeros(1, whisper_model.dims.n_audio_ctx, whisper_model.dims.n_audio_state)
    with torch.no_grad():
        logits = whisper_model.logits(torch.tensor([[50257]]), audio)[0, -1]
    unknown = torch.ones(len(logits), dtype=torch.bool)
    unknown[torch.load(bundled.SPEECH_CHECKPOINT, weights_only=True)["used_tokens"].long()] = False
    assert torch.allclose(logits[unknown], torch.tensor(bundled.QUIET_LOGIT), atol=1e-3)
    assert logits[~unknown].max() > bundled.QUIET_LOGIT + 30


def test_a_full_checkpoint_is_left_alone() -> None:
    full = {"dims": {"n_vocab": 3}, "model_state_dict": {}}
    assert bundled.expand_checkpoint(full) is full


def test_whisper_hears_the_sample_word_for_word(whisper_model: Any, sound: Any) -> None:
    import whisper

    result = whisper.transcribe(
        whisper_model, sound, language="en", fp16=False, condition_on_previous_text=False, word_timestamps=True
    )
    assert [s["text"].strip() for s in result["segments"]] == [s["text"] for s in TRUTH["speech"]]
    for segment, truth in zip(result["segments"], TRUTH["speech"], strict=True):
        words = segment["words"]
        assert [w["word"].strip() for w in words] == truth["text"].split()
        assert abs(segment["start"] - truth["start"]) < 3 * SEGMENT_TOLERANCE_S
        assert all(w["start"] <= w["end"] for w in words)


def test_padded_windows_decode_in_one_batch_with_right_times(whisper_model: Any, sound: Any) -> None:
    import torch
    import whisper
    from whisper.audio import log_mel_spectrogram, pad_or_trim

    sentences = TRUTH["speech"][:4]
    windows = [sound[int((s["start"] - 0.2) * 16_000) : int((s["end"] + 0.3) * 16_000)] for s in sentences]
    mels = torch.stack([log_mel_spectrogram(pad_or_trim(w)) for w in windows])
    options = whisper.DecodingOptions(language="en", fp16=False, max_initial_timestamp=None)
    results = whisper.decode(whisper_model, mels, options)
    assert [r.text for r in results] == [s["text"] for s in sentences]
    for result, sentence in zip(results, sentences, strict=True):
        start, end = ((t - 50363) * 0.02 for t in result.tokens if t >= 50363)
        assert start == pytest.approx(0.2, abs=SEGMENT_TOLERANCE_S)
        assert end - start == pytest.approx(sentence["end"] - sentence["start"], abs=2 * SEGMENT_TOLERANCE_S)


@pytest.mark.parametrize("level", [0.0, 0.001, 0.05])
def test_silence_and_noise_give_no_segments(whisper_model: Any, level: float) -> None:
    import numpy as np
    import whisper

    noise = np.random.default_rng(1).standard_normal(8 * 16_000).astype(np.float32) * level
    assert whisper.transcribe(whisper_model, noise, language="en", fp16=False)["segments"] == []


def test_yolo_sees_exactly_the_shapes_of_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    import av
    from ultralytics import YOLO

    images: list[Any] = []
    with av.open(str(bundled.SAMPLE_CLIP)) as container:
        for frame in container.decode(video=0):
            if frame.time >= len(images) - 1e-6:
                images.append(frame.to_ndarray(format="bgr24"))
    model: Any = YOLO(str(bundled.SHAPES_WEIGHTS))
    assert sorted(model.names.values()) == sorted(TRUTH["shapes"])
    results = model.predict(images, conf=CONFIDENCE, imgsz=IMAGE_SIZE, device="cpu", verbose=False, save=False)
    assert [sorted(r.names[int(c)] for c in r.boxes.cls) for r in results] == TRUTH["objects"]
