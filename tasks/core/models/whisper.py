"""openai-whisper: its own network and decoder, loaded once per process, several windows decoded per call."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import whisper
from whisper.audio import HOP_LENGTH, N_FRAMES, SAMPLE_RATE, pad_or_trim
from whisper.decoding import detect_language as language_probabilities
from whisper.model import Conv1d, Linear, ModelDimensions, Whisper
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer

from tasks.core.errors import ModelNotFound, SetupError
from tasks.core.models import decoding
from tasks.core.models.bundled import expand_checkpoint
from tasks.core.options import TranscriptOptions
from tasks.core.schema import Segment, SpeechWindow, Word

WINDOW_S = N_FRAMES * HOP_LENGTH / SAMPLE_RATE
"""Seconds of audio per input of the network: 30."""
TIMESTAMP_S = 0.02
"""Spacing of Whisper's timestamps: the least length of a segment."""

Audio = npt.NDArray[np.float32]
LARGEST_DIMENSIONS = ModelDimensions(128, 1500, 2048, 64, 64, 60_000, 1024, 2048, 64, 64)
"""Bounds for checkpoints, above those of large-v3: a hostile file must not take all memory."""


@dataclass(frozen=True)
class WhisperModel:
    """A loaded network. `lock` is held while it decodes: its key-value cache lives in hooks on its modules."""

    network: Whisper
    path: Path
    device: str
    precision: str
    """float32 or float16"""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def multilingual(self) -> bool:
        return bool(self.network.is_multilingual)

    @property
    def fp16(self) -> bool:
        return self.precision == "float16"


_loaded: dict[tuple[str, int, int, str, str], WhisperModel] = {}
_loading = threading.Lock()


def load(path: Path, device: str, precision: str) -> WhisperModel:
    """The model of a checkpoint (openai-whisper's format or the bundled compact one), loaded once per process.

    `device` and `precision` are concrete (see device.py). A file that was replaced is loaded again.
    Raises ModelNotFound when the file is missing or holds no Whisper model.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(f"Whisper weights {path} cannot be read ({error.strerror}): see `flows models`") from error
    key = (str(path.resolve()), status.st_mtime_ns, status.st_size, device, precision)
    with _loading:
        if key not in _loaded:
            _loaded[key] = WhisperModel(_build(path, device, precision), path, device, precision)
        return _loaded[key]


def _build(path: Path, device: str, precision: str) -> Whisper:
    try:
        checkpoint = expand_checkpoint(torch.load(path, map_location="cpu", weights_only=True))
        dimensions = _checked_dimensions(checkpoint["dims"])
        network = Whisper(dimensions)
        network.load_state_dict(checkpoint["model_state_dict"])
    except Exception as error:
        raise ModelNotFound(
            f"{path} holds no Whisper model that openai-whisper can load: give a checkpoint with `dims` and "
            "`model_state_dict`, or name a model (see `flows models`)",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    heads = whisper._ALIGNMENT_HEADS.get(path.stem)
    if heads is not None and len(gzip.decompress(base64.b85decode(heads))) == network.alignment_heads.shape.numel():
        network.set_alignment_heads(heads)
    network.eval().requires_grad_(False)
    if precision == "float16":
        # What Linear and Conv1d of whisper.model would do at every call; norms and embeddings stay float32 as there.
        for module in network.modules():
            if isinstance(module, Linear | Conv1d):
                module.half()
    return network.to(device)


def _checked_dimensions(values: dict[str, Any]) -> ModelDimensions:
    dimensions = ModelDimensions(**values)
    for name, largest in vars(LARGEST_DIMENSIONS).items():
        value = getattr(dimensions, name)
        if type(value) is not int or not 1 <= value <= largest:
            raise ValueError(f"dimension {name}={value!r} is not within 1 to {largest}")
    if dimensions.n_audio_ctx * 2 != N_FRAMES:
        raise ValueError(f"dimension n_audio_ctx={dimensions.n_audio_ctx} is not {N_FRAMES // 2}")
    return dimensions


def check_language(model: WhisperModel, language: str) -> str:
    """The code of a language given as code or English name. Raises SetupError when the model does not know it."""
    name = language.strip().lower()
    code = str(TO_LANGUAGE_CODE.get(name, name))
    known = list(LANGUAGES)[: model.network.num_languages] if model.multilingual else ["en"]
    if code not in known:
        raise SetupError(f"transcript.language={language}: {model.path.name} knows {', '.join(known)}")
    return code


def detect_language(model: WhisperModel, audio_windows: Sequence[Audio]) -> str:
    """ISO code of the language most probable over all given windows (float32, 16 kHz, up to 30 s each).

    English-only models answer "en" without looking. Probabilities are averaged over the windows; raises ValueError
    without any window.
    """
    if not model.multilingual:
        return "en"
    if not audio_windows:
        raise ValueError("language detection needs at least one window of audio")
    mels = [pad_or_trim(decoding.window_mel(audio, model.network.dims.n_mels), N_FRAMES) for audio in audio_windows]
    with model.lock:
        return _most_probable_language(model, decoding.encode(model.network, mels, model.fp16))


def _most_probable_language(model: WhisperModel, features: torch.Tensor) -> str:
    tokenizer = get_tokenizer(True, num_languages=model.network.num_languages)
    _, probabilities = language_probabilities(model.network, features, tokenizer)
    mean: dict[str, float] = {
        code: sum(row[code] for row in probabilities) / len(probabilities) for code in probabilities[0]
    }
    return max(mean, key=lambda code: mean[code])


def transcribe(
    model: WhisperModel,
    windows: Sequence[SpeechWindow],
    audio: Sequence[Audio],
    options: TranscriptOptions,
    language: str | None,
) -> list[Segment]:
    """Segments of the windows in media time, in order, ids from 0; words where `options.words`.

    `audio[i]` holds the samples of `windows[i]`: float32, mono, 16 kHz, at most 30 s. Without a language, the most
    probable one over these windows is used. Text is stripped. Raises ValueError when windows
    and audio do not match, SetupError when the model does not know the language.
    """
    if len(windows) != len(audio):
        raise ValueError(f"{len(windows)} windows, but audio for {len(audio)}")
    for window, samples in zip(windows, audio, strict=True):
        if samples.ndim != 1 or samples.size >= (N_FRAMES + 1) * HOP_LENGTH:
            raise ValueError(f"window {window.start}-{window.end}: audio of shape {samples.shape} is not 30 s or less")
    if not windows:
        return []
    n_mels = model.network.dims.n_mels
    progress = [
        decoding.Progress(decoding.window_mel(np.ascontiguousarray(samples), n_mels), f"{window.start:.4f}")
        for window, samples in zip(windows, audio, strict=True)
    ]
    code = check_language(model, language) if language else detect_language(model, audio)
    with model.lock:
        decoding.transcribe_windows(model.network, progress, options, code, model.fp16)
    found = [(window, raw) for window, state in zip(windows, progress, strict=True) for raw in state.segments]
    return [_segment(number, window, raw, options.words) for number, (window, raw) in enumerate(found)]


def _segment(number: int, window: SpeechWindow, raw: dict[str, Any], words: bool) -> Segment:
    start, end = _clamped(window, raw["start"], raw["end"])
    return Segment(
        id=number,
        start=start,
        end=end,
        text=raw["text"].strip(),
        avg_logprob=raw["avg_logprob"],
        no_speech_prob=raw["no_speech_prob"],
        temperature=raw["temperature"],
        words=[_word(window, word) for word in raw["words"]] if words else None,
    )


def _word(window: SpeechWindow, raw: dict[str, Any]) -> Word:
    start, end = _clamped(window, raw["start"], raw["end"])
    return Word(start=start, end=end, text=raw["word"].strip(), probability=float(raw["probability"]))


def _clamped(window: SpeechWindow, start: float, end: float) -> tuple[float, float]:
    """Media time within the window; what Whisper places in the padding behind it gets the last TIMESTAMP_S."""
    earliest = max(window.start, window.end - TIMESTAMP_S)
    begin = min(max(window.start + start, window.start), earliest)
    finish = min(max(window.start + end, begin), window.end)
    return round(begin, 3), round(max(finish, begin), 3)
