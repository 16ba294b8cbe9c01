"""Whisper's decoding of several windows at once, with results that do not depend on what else is in the batch.

openai-whisper's DecodingTask takes a batch already, but `whisper.transcribe` gives it one window at a time. Here the
loop of `transcribe` (temperature fallback, silence guard, seeking to the last timestamp) runs for all windows of a
batch together: each round decodes whatever part of each window is still uncovered, and the fallback only the rows that
failed. Text and times equal those of `whisper.transcribe(window, condition_on_previous_text=False)`; a test holds it
to that.

Conditioning on previous text is off: it would chain the windows, which then could not be decoded together, rerun alone
or cached, and it is what lets one hallucination spread over the rest of a recording.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from whisper import timing
from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FFT, N_FRAMES, SAMPLE_RATE, log_mel_spectrogram, pad_or_trim
from whisper.decoding import (
    ApplyTimestampRules,
    DecodingOptions,
    DecodingResult,
    DecodingTask,
    GreedyDecoder,
    LogitFilter,
)
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer
from whisper.utils import get_end

from tasks.core.models.alignment import dtw
from tasks.core.options import TranscriptOptions

MAX_ROUNDS = 200
"""Decodes per window. Speech needs about five; this ends a model that stutters forward in single timestamps."""

timing.dtw_cpu = dtw

logger = logging.getLogger(__name__)


def window_mel(audio: npt.NDArray[np.float32], n_mels: int) -> Tensor:
    """Log-mel of a window as `whisper.transcribe` sees it, padding left out: shape (n_mels, samples // 160).

    `transcribe` computes it over 30 s of zeros more and then uses the content alone. Only frames that reach into the
    content can hold the maximum that the values are clamped against, so a few frames of zeros give the same numbers.
    """
    mel: Tensor = log_mel_spectrogram(torch.from_numpy(audio), n_mels, padding=2 * N_FFT)
    return mel[:, : audio.size // HOP_LENGTH]


@dataclass
class Progress:
    """How far one window is transcribed. Times and `seek` (mel frames, 10 ms) count from the window's start."""

    mel: Tensor
    """(n_mels, frames)"""
    name: str
    """Identifies the window in every run: seeds its sampling."""
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

    def next_mel(self) -> Tensor:
        """What is not covered yet, padded with zeros: shape (n_mels, 3000)."""
        mel: Tensor = pad_or_trim(self.mel[:, self.seek : self.seek + N_FRAMES], N_FRAMES)
        return mel


def transcribe_windows(
    network: Whisper, windows: Sequence[Progress], options: TranscriptOptions, language: str, fp16: bool
) -> None:
    """Decode until every window is covered; the segments, as `whisper.transcribe` makes them, end up in `windows`."""
    tokenizer = get_tokenizer(
        network.is_multilingual, num_languages=network.num_languages, language=language, task="transcribe"
    )
    while active := [window for window in windows if not window.finished]:
        features = encode(network, [window.next_mel() for window in active], fp16)
        results = decode_with_fallback(network, features, active, options, language, fp16)
        for window, result, own_features in zip(active, results, features, strict=True):
            advance(network, window, result, own_features, options, tokenizer)


def encode(network: Whisper, mels: Sequence[Tensor], fp16: bool) -> Tensor:
    """Encoder features (windows, n_audio_ctx, n_audio_state) of mels of shape (n_mels, 3000)."""
    batch = torch.stack(list(mels)).to(network.device, torch.float16 if fp16 else torch.float32)
    with torch.no_grad():
        features: Tensor = network.encoder(batch)
    return features


def decode_with_fallback(
    network: Whisper,
    features: Tensor,
    windows: Sequence[Progress],
    options: TranscriptOptions,
    language: str,
    fp16: bool,
) -> list[DecodingResult]:
    """One result per row of `features`: rows that fail the guards are decoded again at the next temperature, alone."""
    results: dict[int, DecodingResult] = {}
    rows = list(range(len(windows)))
    for temperature in options.temperatures:
        decoding = DecodingOptions(
            language=language,
            temperature=temperature,
            beam_size=options.beam_size if options.beam_size > 1 and temperature == 0 else None,
            fp16=fp16,
        )
        task = BatchTask(network, decoding, [sampling_seed(windows[row], temperature) for row in rows])
        results.update(zip(rows, task.run(features[rows]), strict=True))
        rows = [row for row in rows if _failed(results[row], options)]
        if not rows:
            break
    return [results[row] for row in range(len(windows))]


def _failed(result: DecodingResult, options: TranscriptOptions) -> bool:
    unlikely = bool(result.avg_logprob < options.log_probability)
    if unlikely and result.no_speech_prob > options.no_speech:
        return False
    return unlikely or bool(result.compression_ratio > options.compression_ratio)


def sampling_seed(window: Progress, temperature: float) -> int:
    """The same in every run, so that a window decoded again after a crash gives the same text."""
    name = f"{window.name}/{window.seek}/{temperature:.6f}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def advance(
    network: Whisper,
    window: Progress,
    result: DecodingResult,
    features: Tensor,
    options: TranscriptOptions,
    tokenizer: Tokenizer,
) -> None:
    """Add the segments of one decode to the window and move `seek`, as the loop of `whisper.transcribe` does."""
    size = min(N_FRAMES, window.frames - window.seek)
    before = window.seek
    window.rounds += 1
    if result.no_speech_prob > options.no_speech and result.avg_logprob <= options.log_probability:
        window.seek += size
        return
    segments, step, ends_in_silence = cut_segments(result, before, size, network.dims.n_audio_ctx, tokenizer)
    window.seek += step
    if options.words:
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
    if window.seek <= before or (window.rounds >= MAX_ROUNDS and not window.finished):
        rest = (window.frames - before) / FRAMES_PER_SECOND
        logger.warning("window %s: decoding makes no progress; %.1f s are left out", window.name, rest)
        window.seek = window.frames


def cut_segments(
    result: DecodingResult, seek: int, size: int, audio_context: int, tokenizer: Tokenizer
) -> tuple[list[dict[str, Any]], int, bool]:
    """Segments between timestamp tokens; the mel frames now covered; whether silence follows the last timestamp."""
    stride = N_FRAMES // audio_context
    precision = stride * HOP_LENGTH / SAMPLE_RATE
    offset = seek * HOP_LENGTH / SAMPLE_RATE
    tokens = result.tokens
    stamps = [token >= tokenizer.timestamp_begin for token in tokens]
    ends_in_silence = stamps[-2:] == [False, True]
    cuts = [i + 1 for i in range(len(tokens) - 1) if stamps[i] and stamps[i + 1]]

    def seconds(token: int) -> float:
        return float((token - tokenizer.timestamp_begin) * precision)

    def segment(start: float, end: float, own: list[int]) -> dict[str, Any]:
        return {
            "seek": seek,
            "start": start,
            "end": end,
            "text": tokenizer.decode([token for token in own if token < tokenizer.eot]),
            "tokens": own,
            "temperature": result.temperature,
            "avg_logprob": result.avg_logprob,
            "no_speech_prob": result.no_speech_prob,
        }

    if not cuts:
        last = [token for token, stamp in zip(tokens, stamps, strict=True) if stamp][-1:]
        known_end = bool(last) and last[0] != tokenizer.timestamp_begin
        duration = seconds(last[0]) if known_end else size * HOP_LENGTH / SAMPLE_RATE
        return [segment(offset, offset + duration, tokens)], size, ends_in_silence
    if ends_in_silence:
        cuts.append(len(tokens))
    pieces = [tokens[first:last] for first, last in zip([0, *cuts], cuts, strict=False)]
    segments = [segment(offset + seconds(piece[0]), offset + seconds(piece[-1]), piece) for piece in pieces]
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


class BatchTask(DecodingTask):
    """DecodingTask over encoder features: a seeded sampler per row, and no Python loop over rows in the rules.

    `run` takes features (windows, n_audio_ctx, n_audio_state). For beams they are repeated here: openai-whisper relies
    on broadcasting there, which works for one window only.
    """

    logit_filters: list[LogitFilter]

    def __init__(self, network: Whisper, options: DecodingOptions, seeds: Sequence[int]) -> None:
        super().__init__(network, options)
        if options.temperature > 0:
            self.decoder = RowSampler(options.temperature, self.tokenizer.eot, seeds, network.device)
        self.logit_filters = [
            TimestampRules(rule) if isinstance(rule, ApplyTimestampRules) else rule for rule in self.logit_filters
        ]

    def _get_audio_features(self, mel: Tensor) -> Tensor:
        features: Tensor = super()._get_audio_features(mel)
        return features.repeat_interleave(self.n_group, dim=0)

    def _detect_language(self, audio_features: Tensor, tokens: Tensor) -> tuple[list[str], None]:
        return [self.options.language] * len(tokens), None


class RowSampler(GreedyDecoder):
    """Sampling in which each row draws from a generator of its own: the global one is left alone."""

    def __init__(self, temperature: float, eot: int, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(temperature, eot)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def update(self, tokens: Tensor, logits: Tensor, sum_logprobs: Tensor) -> tuple[Tensor, bool]:
        """As GreedyDecoder.update: tokens (rows, length) grow by one; true when every row has ended."""
        ended = tokens[:, -1] == self.eot
        probabilities = functional.softmax(logits.float() / self.temperature, dim=-1)
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(probabilities, self.generators, strict=True)
        ]
        following = torch.cat(drawn).masked_fill(ended, self.eot)
        logprobs = functional.log_softmax(logits.float(), dim=-1)
        sum_logprobs += logprobs.gather(1, following[:, None])[:, 0] * ~ended
        tokens = torch.cat([tokens, following[:, None]], dim=-1)
        return tokens, bool((tokens[:, -1] == self.eot).all())


class TimestampRules(LogitFilter):
    """ApplyTimestampRules of openai-whisper over all rows at once."""

    def __init__(self, rules: ApplyTimestampRules) -> None:
        tokenizer = rules.tokenizer
        self.begin, self.eot, self.no_timestamps = tokenizer.timestamp_begin, tokenizer.eot, tokenizer.no_timestamps
        self.sample_begin, self.max_initial = rules.sample_begin, rules.max_initial_timestamp_index

    def apply(self, logits: Tensor, tokens: Tensor) -> None:
        """Mask logits (rows, vocabulary) in place, given the tokens so far (rows, length)."""
        text, stamps, minus = logits[:, : self.begin], logits[:, self.begin :], float("-inf")
        logits[:, self.no_timestamps] = minus
        sampled = tokens[:, self.sample_begin :]
        length = sampled.shape[1]
        if length == 0:
            text.fill_(minus)
            if self.max_initial is not None:
                stamps[:, self.max_initial + 1 :] = minus
        else:
            last = sampled[:, -1] >= self.begin
            pair = last & (sampled[:, -2] >= self.begin) if length > 1 else last
            stamps.masked_fill_(pair[:, None], minus)
            logits[:, : self.eot].masked_fill_((last & ~pair)[:, None], minus)
            # Timestamps never decrease and outrank every text token, so the largest token is the last timestamp. The
            # next one may equal it only where it opens a segment: that forbids empty segments and endless loops.
            latest = sampled.amax(dim=1)
            lowest = torch.where(last & ~pair, latest, latest + 1) - self.begin
            positions = torch.arange(stamps.shape[1], device=logits.device)
            stamps.masked_fill_((positions < lowest[:, None]) & (latest >= self.begin)[:, None], minus)
        logprobs = functional.log_softmax(logits.float(), dim=-1)
        any_stamp = logprobs[:, self.begin :].logsumexp(dim=-1)
        text.masked_fill_((any_stamp > logprobs[:, : self.begin].amax(dim=-1))[:, None], minus)
