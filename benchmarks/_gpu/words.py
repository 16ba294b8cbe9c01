"""What Whisper hears with real weights, on the device and on the CPU: the words that were said, and the same ones."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from benchmarks._gpu import Figures, Sizes
from benchmarks._gpu.media import english
from benchmarks._media import read_samples
from benchmarks._speech_corpus import RATE
from benchmarks._word_errors import normal_words, word_errors
from tasks.core.models import bundled, whisper
from tasks.core.options import TranscriptOptions
from tasks.core.schema import SpeechWindow

SPEECH = "speech/jfk.flac"
WRONG = 0.1
"""Share of the words that tiny.en may get wrong; the bundled weights none."""


def run(sizes: Sizes) -> Figures:
    """Raises AssertionError where words are wrong, or device and CPU hear other ones."""
    path, source, said, wrong = _spoken()
    samples = read_samples(source)
    window = SpeechWindow(start=0.0, end=samples.size / RATE)
    heard, seconds = {}, {}
    for device, precision in {sizes.device: sizes.precision, "cpu": "float32"}.items():
        model = whisper.load(path, device, precision)
        whisper.transcribe(model, [window], [samples], TranscriptOptions(), "en")
        started = time.perf_counter()
        [found] = whisper.transcribe(model, [window], [samples], TranscriptOptions(), "en")
        seconds[device] = time.perf_counter() - started
        heard[device] = " ".join(segment.text for segment in found.segments)
        errors, words = word_errors(said, heard[device])
        assert errors <= wrong * words, f"{device}: {errors} errors in {words} words: {heard[device][:300]}"
    assert len(set(map(tuple, map(normal_words, heard.values())))) == 1, f"device and CPU hear other words: {heard}"
    errors, words = word_errors(said, heard[sizes.device])
    return {
        "weights": path.name,
        "source": source.name,
        "words": words,
        "word_errors": errors,
        "seconds": seconds,
        "equal": {
            "rule": f"the same words on both, at most {wrong:.0%} of them wrong",
            "sides": [f"{sizes.device} {sizes.precision}", "cpu float32"],
        },
    }


def _spoken() -> tuple[Path, Path, str, float]:
    """Weights, a file of half a minute or less, what is said in it, and the share of words that may be wrong."""
    media = Path(os.environ.get("REELFLOW_TEST_MEDIA", ""))
    found = english()
    if found and (media / SPEECH).is_file() and (media / "ground_truth.json").is_file():
        texts = json.loads((media / "ground_truth.json").read_text(encoding="utf-8"))["speech_text"]
        return found, media / SPEECH, texts[Path(SPEECH).name], WRONG
    parts = json.loads(bundled.SAMPLE_TRUTH.read_text(encoding="utf-8"))["speech"]
    return bundled.SPEECH_CHECKPOINT, bundled.SAMPLE_CLIP, " ".join(part["text"] for part in parts), 0.0
