"""What the bundled Whisper gets right, measured through openai-whisper's own decode and transcribe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_tokenizer

from tasks.core.models.bundled import expand_checkpoint
from tasks.core.models.training.speech_batch import window_mel
from tasks.core.models.training.speech_data import UNSEEN_VOICE, Window, compose, compose_empty, make_corpus

WINDOW_S = 30.0
DECODE_BATCH = 8
"""Windows per call; beam search takes one, since whisper does not repeat the audio of a batch for its beams."""
TIMESTAMP_S = 0.02


def load(checkpoint: Path) -> Whisper:
    """The bundled model as openai-whisper's own module, float32 on the CPU."""
    full = expand_checkpoint(torch.load(checkpoint, map_location="cpu", weights_only=True))
    model = Whisper(ModelDimensions(**full["dims"]))
    model.load_state_dict(full["model_state_dict"])
    return model.eval()


def word_errors(truth: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(truth, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def decode_windows(model: Whisper, windows: Sequence[Window], **options: Any) -> list[Any]:
    """whisper.decode over batches of windows; its results, one per window."""
    chosen = whisper.DecodingOptions(**{"language": "en", "fp16": False, "max_initial_timestamp": None} | options)
    results: list[Any] = []
    size = 1 if options.get("beam_size") else DECODE_BATCH
    for i in range(0, len(windows), size):
        mels = torch.stack([window_mel(w) for w in windows[i : i + size]])
        results += whisper.decode(model, mels, chosen)
    return results


def word_error_rate(windows: Sequence[Window], results: Sequence[Any]) -> float:
    pairs = [(w.text.split(), r.text.split()) for w, r in zip(windows, results, strict=True)]
    return sum(word_errors(a, b) for a, b in pairs) / max(1, sum(len(a) for a, _ in pairs))


def segment_times(tokens: Sequence[int]) -> list[tuple[float, float]]:
    """(start, end) of each finished segment of a decoded window, in seconds."""
    begin = get_tokenizer(multilingual=False).timestamp_begin
    stamps = [(t - begin) * TIMESTAMP_S for t in tokens if t >= begin]
    return list(zip(stamps[::2], stamps[1::2], strict=False))


def timestamp_errors(windows: Sequence[Window], results: Sequence[Any]) -> np.ndarray:
    """Absolute errors of starts and ends in seconds, over windows whose number of segments is right."""
    errors: list[float] = []
    for window, result in zip(windows, results, strict=True):
        times = segment_times(result.tokens)
        if len(times) == len(window.segments):
            for segment, (start, end) in zip(window.segments, times, strict=True):
                errors += [abs(segment.start_s - start), abs(segment.end_s - end)]
    return np.array(errors)


def silence_false_positives(model: Whisper, count: int, seed: int) -> int:
    """How many of `count` windows of silence or noise give any segment through whisper.transcribe's defaults."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count):
        window = compose_empty(float(rng.uniform(1.0, 30.0)), rng)
        wrong += bool(whisper.transcribe(model, window.audio, language="en", fp16=False)["segments"])
    return wrong


def word_time_errors(model: Whisper, windows: Sequence[Window]) -> np.ndarray:
    """Absolute errors of word starts in seconds, from cross-attention, over windows whose words are right."""
    errors: list[float] = []
    for window in windows:
        result = whisper.transcribe(
            model,
            window.audio[: window.content],
            language="en",
            fp16=False,
            word_timestamps=True,
            condition_on_previous_text=False,
            max_initial_timestamp=None,
        )
        words = [word for segment in result["segments"] for word in segment["words"]]
        truth = [times for segment in window.segments for times in segment.word_times]
        if [w["word"].strip() for w in words] == window.text.split():
            errors += [abs(w["start"] - start) for w, (start, _) in zip(words, truth, strict=True)]
    return np.array(errors)


def measure_speech(checkpoint: Path, seed: int, windows: int = 64) -> dict[str, float]:
    """Every figure of the card; `windows` windows of 30 s for each kind, of sentences that training never saw."""
    model = load(checkpoint)
    corpus = make_corpus(600, seed + 1000, held_out=True)
    strangers = make_corpus(200, seed + 2000, held_out=True, voices=(UNSEEN_VOICE,))
    rng = np.random.default_rng(seed + 3000)

    def draw(source: Any = corpus, **kind: Any) -> list[Window]:
        return [compose(source, WINDOW_S, rng, **kind) for _ in range(windows)]

    mixed, late = draw(), [compose(corpus, WINDOW_S, rng, lead_s=float(rng.uniform(3, 8))) for _ in range(windows)]
    one, eight = draw(sentences=1, cut=False), draw(sentences=8, cut=False)
    results = decode_windows(model, mixed)
    times = timestamp_errors(mixed, results)
    figures: dict[str, float] = {
        "wer": word_error_rate(mixed, results),
        "wer_beam5": word_error_rate(mixed[:16], decode_windows(model, mixed[:16], beam_size=5)),
        "wer_one_sentence": word_error_rate(one, decode_windows(model, one)),
        "wer_eight_sentences": word_error_rate(eight, decode_windows(model, eight)),
        "wer_late_start": word_error_rate(late, decode_windows(model, late)),
        "wer_late_start_default_options": word_error_rate(late, decode_windows(model, late, max_initial_timestamp=1.0)),
        "wer_without_timestamps": word_error_rate(mixed, decode_windows(model, mixed, without_timestamps=True)),
        "timestamp_error_mean_s": float(times.mean()) if len(times) else float("nan"),
        "timestamp_error_p99_s": float(np.quantile(times, 0.99)) if len(times) else float("nan"),
        "timestamp_windows_compared": len(times),
    }
    strange = draw(strangers)
    figures["wer_unseen_accent"] = word_error_rate(strange, decode_windows(model, strange))
    words = word_time_errors(model, [w for w in mixed if w.cut_start_s is None][:24])
    figures["word_start_error_median_s"] = float(np.median(words)) if len(words) else float("nan")
    figures["word_start_error_p95_s"] = float(np.quantile(words, 0.95)) if len(words) else float("nan")
    figures["silence_windows"] = windows
    figures["silence_false_positives"] = silence_false_positives(model, windows, seed + 4000)
    figures["windows_per_kind"] = windows
    return {name: round(value, 4) for name, value in figures.items()}
