"""Whisper's way through windows: what is decoded becomes segments, and the next part begins at the last timestamp.

The loop of `whisper.transcribe` (silence guard, seeking), for all windows of a batch together: each round decodes
whatever part of each window is still uncovered. Text and times equal those of `whisper.transcribe(window,
condition_on_previous_text=False)`; a test holds it to that. One thing differs, where it is known when someone speaks:
a text that ends before the speech does is not taken for the end of the window.

Conditioning on previous text is off: it would chain the windows, which then could not be decoded together, rerun alone
or cached, and it is what lets one hallucination spread over the rest of a recording.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from whisper import timing
from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FFT, N_FRAMES, SAMPLE_RATE, log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingResult
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer
from whisper.utils import get_end

from tasks.core.coverage import is_sparse, overlap_s, uncovered
from tasks.core.models.alignment import dtw
from tasks.core.models.decoding import Decoded, DecodeSettings, decode_with_fallback, encode, is_silence
from tasks.core.schema import Interval

MAX_ROUNDS = 200
"""Decodes per window. Speech needs about five; this ends a model that stutters forward in single timestamps."""

LEAST_REST_S = 0.3
"""Speech that is worth another decode: with less, only the padding behind the last word is left."""

timing.dtw_cpu = dtw

logger = logging.getLogger(__name__)


def window_mel(audio: npt.NDArray[np.float32], n_mels: int) -> Tensor:
    """Log-mel of a window as `whisper.transcribe` sees it, padding left out: shape (n_mels, samples // 160).

    `transcribe` computes it over 30 s of zeros more and then uses the content alone. Only frames that reach into the
    content can hold the maximum that the values are clamped against, so a few frames of zeros give the same numbers.
    """
    mel: Tensor = log_mel_spectrogram(torch.from_numpy(audio), n_mels, padding=2 * N_FFT)
    return mel[:, : audio.size // HOP_LENGTH]


@dataclass(eq=False)
class Progress:
    """How far one window is transcribed. Times and `seek` (mel frames, 10 ms) count from the window's start."""

    mel: Tensor
    """(n_mels, frames)"""
    name: str
    """Identifies the window in every run: seeds its sampling."""
    speech: Sequence[Interval] = ()
    """Where someone speaks, as far as that is known."""
    words: bool = False
    seek: int = 0
    rounds: int = 0
    last_speech_s: float = 0.0
    segments: list[dict[str, Any]] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return int(self.mel.shape[-1])

    @property
    def finished(self) -> bool:
        return self.seek >= self.frames

    def next_input(self, inputs: Sequence[tuple[int, int]]) -> int:
        """Frames of the input that what is not covered yet is decoded in, see DecodeSettings.inputs."""
        rest = self.frames - self.seek
        return next((frames for most, frames in inputs if rest <= most), N_FRAMES)

    def next_mel(self, frames: int = N_FRAMES) -> Tensor:
        """What is not covered yet, padded with zeros: shape (n_mels, frames)."""
        mel: Tensor = pad_or_trim(self.mel[:, self.seek : self.seek + frames], frames)
        return mel

    def speaks_after(self, time_s: float) -> bool:
        """Does someone speak from there on, for longer than the model's times are inexact?"""
        return bool(uncovered(self.speech, [Interval(start=0.0, end=max(0.0, time_s))]))


def transcribe_windows(network: Whisper, windows: Sequence[Progress], settings: DecodeSettings) -> None:
    """Decode until every window is covered; the segments, as `whisper.transcribe` makes them, end up in `windows`.

    Those that need the longest input come first, `batch_size` at a time: their rests fill the shorter inputs.
    """
    tokenizer = get_tokenizer(
        network.is_multilingual, num_languages=network.num_languages, language=settings.language, task="transcribe"
    )
    while active := [window for window in windows if not window.finished]:
        frames = max(window.next_input(settings.inputs) for window in active)
        batch = [window for window in active if window.next_input(settings.inputs) == frames]
        batch = batch[: settings.options.batch_size]
        features = encode(network, [window.next_mel(frames) for window in batch], settings.fp16)
        names = [f"{window.name}/{window.seek}" for window in batch]
        decoded = decode_with_fallback(network, features, names, settings)
        for window, found, own_features in zip(batch, decoded, features, strict=True):
            advance(network, window, found, own_features, settings, tokenizer)


def advance(
    network: Whisper,
    window: Progress,
    found: Decoded,
    features: Tensor,
    settings: DecodeSettings,
    tokenizer: Tokenizer,
) -> None:
    """Add the segments of one decode to the window and move `seek`, as the loop of `whisper.transcribe` does."""
    size = min(N_FRAMES, window.frames - window.seek)
    before = window.seek
    window.rounds += 1
    if is_silence(found.result, settings.options):
        window.seek += size
        return
    segments, step, ends_in_silence = cut_segments(found, before, size, network.dims.n_audio_ctx, tokenizer)
    window.seek += step
    if window.words or any(is_sparse(s["start"], s["end"], s["text"], window.speech) for s in segments):
        timing.add_word_timestamps(
            segments=segments,
            model=_Encoded(network, features),
            tokenizer=tokenizer,
            mel=features,
            num_frames=size,
            last_speech_timestamp=window.last_speech_s,
        )
        last_word_s = get_end(segments) or 0.0
        if not ends_in_silence and last_word_s > before / FRAMES_PER_SECOND:
            window.seek = round(last_word_s * FRAMES_PER_SECOND)
        window.last_speech_s = last_word_s
    window.segments += [s for s in segments if s["start"] != s["end"] and s["text"].strip()]
    end_s = max(segment["end"] for segment in segments)
    if window.seek >= before + size and window.speaks_after(end_s):
        # One timestamp at the end says that nothing follows; but something does.
        window.seek = max(round(end_s * FRAMES_PER_SECOND), before)
    elif window.speech and overlap_s(window.seek / FRAMES_PER_SECOND, math.inf, window.speech) < LEAST_REST_S:
        window.seek = window.frames
    if window.seek <= before or (window.rounds >= MAX_ROUNDS and not window.finished):
        rest = (window.frames - before) / FRAMES_PER_SECOND
        logger.warning("window %s: decoding makes no progress; %.1f s are left out", window.name, rest)
        window.seek = window.frames


def cut_segments(
    found: Decoded, seek: int, size: int, audio_context: int, tokenizer: Tokenizer
) -> tuple[list[dict[str, Any]], int, bool]:
    """Segments between timestamp tokens; the mel frames now covered; whether silence follows the last timestamp."""
    stride = N_FRAMES // audio_context
    precision = stride * HOP_LENGTH / SAMPLE_RATE
    offset = seek * HOP_LENGTH / SAMPLE_RATE
    result: DecodingResult = found.result
    tokens = result.tokens
    logprobs = found.logprobs or (result.avg_logprob,) * len(tokens)
    stamps = [token >= tokenizer.timestamp_begin for token in tokens]
    ends_in_silence = stamps[-2:] == [False, True]
    cuts = [i + 1 for i in range(len(tokens) - 1) if stamps[i] and stamps[i + 1]]

    def seconds(token: int) -> float:
        return float((token - tokenizer.timestamp_begin) * precision)

    def segment(start: float, end: float, first: int, last: int) -> dict[str, Any]:
        own = tokens[first:last]
        spoken = [logprobs[at] for at in range(first, last) if tokens[at] < tokenizer.eot]
        return {
            "seek": seek,
            "start": start,
            "end": end,
            "text": tokenizer.decode([token for token in own if token < tokenizer.eot]),
            "tokens": own,
            "temperature": result.temperature,
            "avg_logprob": sum(spoken) / len(spoken) if spoken else result.avg_logprob,
            "no_speech_prob": result.no_speech_prob,
            "unsure": found.unsure,
        }

    if not cuts:
        last = [token for token, stamp in zip(tokens, stamps, strict=True) if stamp][-1:]
        known_end = bool(last) and last[0] != tokenizer.timestamp_begin
        duration = seconds(last[0]) if known_end else size * HOP_LENGTH / SAMPLE_RATE
        return [segment(offset, offset + duration, 0, len(tokens))], size, ends_in_silence
    if ends_in_silence:
        cuts.append(len(tokens))
    segments = [
        segment(offset + seconds(tokens[first]), offset + seconds(tokens[last - 1]), first, last)
        for first, last in zip([0, *cuts], cuts, strict=False)
    ]
    covered = size if ends_in_silence else (tokens[cuts[-1] - 1] - tokenizer.timestamp_begin) * stride
    return segments, covered, ends_in_silence


class _Encoded:
    """A network whose encoder has run: `whisper.timing` calls it with what it takes for a mel."""

    def __init__(self, network: Whisper, features: Tensor) -> None:
        self._features = features
        self.decoder, self.dims, self.device = network.decoder, network.dims, network.device
        self.alignment_heads = network.alignment_heads

    def __call__(self, _mel: Tensor, tokens: Tensor) -> Tensor:
        logits: Tensor = self.decoder(tokens, self._features.unsqueeze(0))
        return logits
