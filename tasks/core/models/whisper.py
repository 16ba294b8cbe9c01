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

from tasks.core.errors import BadModel, ModelNotFound, SetupError
from tasks.core.models.attention import share_audio
from tasks.core.models.bundled import expand_checkpoint
from tasks.core.models.checkpoint import check_checkpoint, check_tensors
from tasks.core.models.decoding import DecodeSettings, encode
from tasks.core.models.hearing import Hearing, alone, relative
from tasks.core.models.seeking import Progress, transcribe_windows, window_mel
from tasks.core.options import TranscriptOptions
from tasks.core.schema import HeardWindow, Segment, SpeechWindow, SpokenLanguage, Word
from tasks.core.segments import Speech
from tasks.core.segments.level import raise_quiet

WINDOW_S = N_FRAMES * HOP_LENGTH / SAMPLE_RATE
"""Seconds of audio per input of the network: 30."""
TIMESTAMP_S = 0.02
"""Spacing of Whisper's timestamps: the least length of a segment."""

Audio = npt.NDArray[np.float32]
INPUTS = ((400, 1024), (850, 1536), (N_FRAMES, N_FRAMES))
"""Up to 4 and 8.5 s, in mel frames, are decoded in an input of 10 and 15 s: a third or half of the cost, with the
same words (benchmarks/README.md). With less silence behind it the network repeats itself."""
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
    Raises ModelNotFound when the file is missing or holds no Whisper model, BadModel when reading it is not safe.
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
    check_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        dimensions = _checked_dimensions(checkpoint["dims"])
        check_tensors(path, checkpoint["model_state_dict"].values())
        checkpoint = expand_checkpoint(checkpoint)
        _check_size(dimensions, checkpoint["model_state_dict"])
        network = Whisper(dimensions)
        network.load_state_dict(checkpoint["model_state_dict"])
        share_audio(network)
    except BadModel:
        raise
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


def _check_size(dimensions: ModelDimensions, weights: dict[str, torch.Tensor]) -> None:
    """A network is made before its weights are put into it: its blocks and words have no more than were given."""
    audio, text = dimensions.n_audio_layer, dimensions.n_text_layer
    least = 12 * audio * dimensions.n_audio_state**2 + 16 * text * dimensions.n_text_state**2
    least += dimensions.n_vocab * dimensions.n_text_state
    given = sum(weight.numel() for weight in weights.values())
    if least > given:
        raise ValueError(f"its dimensions need {least} weights and more, it has {given}")


def check_language(model: WhisperModel, language: str) -> str:
    """The code of a language given as code or English name. Raises SetupError when the model does not know it."""
    name = language.strip().lower()
    code = str(TO_LANGUAGE_CODE.get(name, name))
    known = list(LANGUAGES)[: model.network.num_languages] if model.multilingual else ["en"]
    if code not in known:
        raise SetupError(f"transcript.language={language}: {model.path.name} knows {', '.join(known)}")
    return code


def detect_language(model: WhisperModel, audio_windows: Sequence[Audio]) -> SpokenLanguage:
    """The language most probable over all given windows (float32, 16 kHz, up to 30 s each).

    English-only models answer "en" without looking, and say so. Probabilities are averaged over the windows; raises
    ValueError without any window.
    """
    if not model.multilingual:
        return SpokenLanguage(code="en", checked=False)
    if not audio_windows:
        raise ValueError("language detection needs at least one window of audio")
    mels = [pad_or_trim(window_mel(audio, model.network.dims.n_mels), N_FRAMES) for audio in audio_windows]
    with model.lock:
        code = _most_probable_language(model, encode(model.network, mels, model.fp16))
    return SpokenLanguage(code=code, checked=True)


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
    speech: Speech | None = None,
) -> list[HeardWindow]:
    """What is said in each window, in media time.

    `audio[i]` holds the samples of `windows[i]`: float32, mono, 16 kHz, at most 30 s. Without a language, the most
    probable one over these windows is used. Text is stripped; ids count from 0 in each window; there are words where
    `options.words`, or where windows share a stretch.

    Where `speech` says that someone speaks and no text came, the stretch is decoded again, alone, then without
    timestamps; what still has no text is a gap. What the model makes up where nobody speaks is dropped and counted.
    Without `speech` the result is that of `whisper.transcribe` on each window.
    Raises ValueError when windows and audio do not match, SetupError when the model does not know the language or the
    prompt is too long for it.
    """
    if len(windows) != len(audio):
        raise ValueError(f"{len(windows)} windows, but audio for {len(audio)}")
    for window, samples in zip(windows, audio, strict=True):
        if samples.ndim != 1 or samples.size >= (N_FRAMES + 1) * HOP_LENGTH:
            raise ValueError(f"window {window.start}-{window.end}: audio of shape {samples.shape} is not 30 s or less")
    if not windows:
        return []
    code = check_language(model, language) if language else detect_language(model, audio).code
    settings = DecodeSettings(options, code, model.fp16, prompt_tokens(model, options, code))
    first = _decode(model, windows, audio, settings, speech)
    if speech is None:
        found = zip(windows, first, strict=True)
        return [HeardWindow(window=window, segments=_numbered(segments)) for window, segments in found]
    heard = [Hearing(*found, speech) for found in zip(windows, audio, first, strict=True)]
    careful = options.model_copy(update={"beam_size": max(options.beam_size, options.second_look_beams)})
    for timestamps in (True, False):
        again = [
            (at, stretch)
            for at, hearing in enumerate(heard)
            for stretch in [*hearing.missing(), *(hearing.doubtful(options.second_look) if timestamps else [])]
        ]
        parts = [alone(windows[at], audio[at], stretch) for at, stretch in again]
        mode = settings._replace(options=careful, timestamps=timestamps)
        more = _decode(model, [part for part, _ in parts], [samples for _, samples in parts], mode, speech)
        for (at, stretch), segments in zip(again, more, strict=True):
            heard[at].add(stretch, segments)
    return [hearing.result() for hearing in heard]


def prompt_tokens(model: WhisperModel, options: TranscriptOptions, language: str) -> tuple[int, ...]:
    """Tokens of `transcript.prompt` and `transcript.hotwords`. Raises SetupError when they are more than fit."""
    text = " ".join(part for part in (options.prompt, ", ".join(options.hotwords or ())) if part)
    if not text:
        return ()
    tokenizer = get_tokenizer(
        model.network.is_multilingual, num_languages=model.network.num_languages, language=language, task="transcribe"
    )
    tokens = tokenizer.encode(" " + text.strip())
    most = model.network.dims.n_text_ctx // 2 - 1
    if len(tokens) > most:
        raise SetupError(
            f"transcript.prompt and transcript.hotwords are {len(tokens)} tokens; {model.path.name} takes {most}: "
            "leave some words out"
        )
    return tuple(tokens)


def _decode(
    model: WhisperModel,
    windows: Sequence[SpeechWindow],
    audio: Sequence[Audio],
    settings: DecodeSettings,
    speech: Speech | None,
) -> list[list[Segment]]:
    """The segments of each window, as the model gives them, in media time.

    Where it is known when someone speaks, what is short is decoded in a shorter input.
    """
    n_mels = model.network.dims.n_mels
    progress = [
        Progress(
            window_mel(np.ascontiguousarray(raise_quiet(samples) if speech else samples), n_mels),
            f"{window.start:.4f}",
            relative(speech.segments, window) if speech else (),
            words=settings.options.words or window.shared_start_s > 0 or window.shared_end_s > 0,
        )
        for window, samples in zip(windows, audio, strict=True)
    ]
    if speech is not None and settings.timestamps:
        settings = settings._replace(inputs=INPUTS)
    with model.lock:
        transcribe_windows(model.network, progress, settings)
    return [[_segment(window, raw) for raw in state.segments] for window, state in zip(windows, progress, strict=True)]


def _segment(window: SpeechWindow, raw: dict[str, Any]) -> Segment:
    start, end = _clamped(window, raw["start"], raw["end"])
    return Segment(
        id=0,
        start=start,
        end=end,
        text=raw["text"].strip(),
        avg_logprob=raw["avg_logprob"],
        no_speech_prob=raw["no_speech_prob"],
        temperature=raw["temperature"],
        unsure=raw["unsure"],
        words=[_word(window, word) for word in raw["words"]] if "words" in raw else None,
    )


def _numbered(segments: Sequence[Segment]) -> list[Segment]:
    return [segment.model_copy(update={"id": number}) for number, segment in enumerate(segments)]


def _word(window: SpeechWindow, raw: dict[str, Any]) -> Word:
    start, end = _clamped(window, raw["start"], raw["end"])
    return Word(start=start, end=end, text=raw["word"].strip(), probability=float(raw["probability"]))


def _clamped(window: SpeechWindow, start: float, end: float) -> tuple[float, float]:
    """Media time within the window; what Whisper places in the padding behind it gets the last TIMESTAMP_S."""
    earliest = max(window.start, window.end - TIMESTAMP_S)
    begin = min(max(window.start + start, window.start), earliest)
    finish = min(max(window.start + end, begin), window.end)
    return round(begin, 3), round(max(finish, begin), 3)
