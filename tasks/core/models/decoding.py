"""Whisper's decoding of several windows at once, with results that do not depend on what else is in the batch.

openai-whisper's DecodingTask takes a batch already, but `whisper.transcribe` gives it one window at a time. Here one
call decodes the next part of each window, and the temperature fallback only the rows that failed its guards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from whisper.audio import N_FRAMES
from whisper.decoding import (
    ApplyTimestampRules,
    BeamSearchDecoder,
    DecodingOptions,
    DecodingResult,
    DecodingTask,
    GreedyDecoder,
    LogitFilter,
)
from whisper.model import Whisper

from tasks.core.models.attention import SharedAudioInference
from tasks.core.options import TranscriptOptions

FULL = 0.75
"""With at most so much of a batch still growing, the rest leaves it: to copy what stays costs about one step."""


class Decoded(NamedTuple):
    """One window's text, and whether it failed the guards at every temperature."""

    result: DecodingResult
    unsure: bool
    logprobs: tuple[float, ...] | None = None
    """Log probability of each token of the result; None for beams, which do not keep them."""


class DecodeSettings(NamedTuple):
    """What all windows of a call have in common."""

    options: TranscriptOptions
    language: str
    fp16: bool
    prompt: tuple[int, ...] = ()
    """Tokens that stand before the text of each window."""
    timestamps: bool = True
    inputs: Sequence[tuple[int, int]] = ((N_FRAMES, N_FRAMES),)
    """Up to so many mel frames (10 ms) are decoded in an input of so many; the last takes all of the network's 30 s."""


def encode(network: Whisper, mels: Sequence[Tensor], fp16: bool) -> Tensor:
    """Encoder features (windows, frames / 2, n_audio_state) of mels of shape (n_mels, frames), at most 3000 frames.

    Fewer frames than 3000 cost in proportion; the network then sees the first of its positions only.
    """
    batch = torch.stack(list(mels)).to(network.device, torch.float16 if fp16 else torch.float32)
    encoder = network.encoder
    with torch.no_grad():
        if batch.shape[-1] == N_FRAMES:
            whole: Tensor = encoder(batch)
            return whole
        x = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(batch)))).permute(0, 2, 1)
        x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
        for block in encoder.blocks:
            x = block(x)
        part: Tensor = encoder.ln_post(x)
        return part


def decode_with_fallback(
    network: Whisper, features: Tensor, names: Sequence[str], settings: DecodeSettings
) -> list[Decoded]:
    """One text per row of `features`: rows that fail the guards are decoded again at the next temperature, alone.

    `names` identify the rows in every run: they seed the sampling, so that what is decoded again after a crash gives
    the same text. Of a row's texts that all fail, the most likely one that does not repeat itself is taken.
    """
    options = settings.options
    passed: dict[int, Decoded] = {}
    failed: dict[int, list[Decoded]] = {row: [] for row in range(len(names))}
    for temperature in options.temperatures:
        rows = [row for row in failed if row not in passed]
        if not rows:
            break
        decoding = DecodingOptions(
            language=settings.language,
            temperature=temperature,
            beam_size=options.beam_size if options.beam_size > 1 and temperature == 0 else None,
            prompt=list(settings.prompt) or None,
            without_timestamps=not settings.timestamps,
            fp16=settings.fp16,
        )
        task = BatchTask(network, decoding, [_seed(names[row], temperature) for row in rows])
        for place, (row, result) in enumerate(zip(rows, task.run(features[rows]), strict=True)):
            logprobs = task.logprobs(place, len(result.tokens))
            if _passes(result, options):
                passed[row] = Decoded(result, False, logprobs)
            else:
                failed[row].append(Decoded(result, True, logprobs))
    return [passed[row] if row in passed else max(failed[row], key=_least_bad(options)) for row in range(len(names))]


def is_silence(result: DecodingResult, options: TranscriptOptions) -> bool:
    """Does the model itself say that nobody speaks?"""
    return bool(result.no_speech_prob > options.no_speech and not result.avg_logprob > options.log_probability)


def _passes(result: DecodingResult, options: TranscriptOptions) -> bool:
    """Written so that NaN passes no guard."""
    if result.avg_logprob < options.log_probability and result.no_speech_prob > options.no_speech:
        return True
    likely = result.avg_logprob >= options.log_probability
    return bool(likely and result.compression_ratio <= options.compression_ratio)


def _least_bad(options: TranscriptOptions) -> Callable[[Decoded], tuple[bool, float]]:
    def rank(decoded: Decoded) -> tuple[bool, float]:
        result = decoded.result
        likely = result.avg_logprob if result.avg_logprob > float("-inf") else float("-inf")
        return result.compression_ratio <= options.compression_ratio, likely

    return rank


def _seed(name: str, temperature: float) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}/{temperature:.6f}".encode()).digest()[:8], "little") >> 1


class BatchTask(DecodingTask):
    """DecodingTask over encoder features: windows leave the batch as their text ends, each row has a seeded sampler.

    `run` takes features (windows, positions, n_audio_state) and a network that attention.share_audio has prepared.
    """

    logit_filters: list[LogitFilter]

    def __init__(self, network: Whisper, options: DecodingOptions, seeds: Sequence[int]) -> None:
        super().__init__(network, options)
        self.inference = SharedAudioInference(network, len(self.initial_tokens), self.n_group)
        if options.temperature > 0:
            self.decoder = RowSampler(options.temperature, self.tokenizer.eot, seeds, network.device)
        elif options.beam_size is None:
            self.decoder = Greedy(0.0, self.tokenizer.eot)
        else:
            self.decoder = Beams(options.beam_size, self.tokenizer.eot, self.inference)
        self.logit_filters = [
            TimestampRules(rule) if isinstance(rule, ApplyTimestampRules) else rule for rule in self.logit_filters
        ]

    def logprobs(self, row: int, length: int) -> tuple[float, ...] | None:
        """Log probability of each of the first `length` tokens of a row that was decoded without beams."""
        if not isinstance(self.decoder, Greedy):
            return None
        return tuple(self._sums[row, :length].diff(prepend=self._sums.new_zeros(1)).tolist())

    def _main_loop(self, audio_features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, list[float]]:
        """As DecodingTask._main_loop; windows whose text has ended leave the batch."""
        group, rows = self.n_group, torch.arange(len(tokens))
        longest = tokens.shape[1] + self.sample_len
        texts = torch.full((len(tokens), longest), self.tokenizer.eot, device=tokens.device)
        self._sums = torch.zeros((len(tokens), self.sample_len), device=tokens.device)
        sums = self._sums[:, 0].clone()
        no_speech: list[float] = [math.nan] * len(tokens)
        try:
            for step in range(self.sample_len):
                logits = self.inference.logits(tokens, audio_features)
                if step == 0 and self.tokenizer.no_speech is not None:
                    no_speech = logits[:, self.sot_index].float().softmax(dim=-1)[:, self.tokenizer.no_speech].tolist()
                logits = logits[:, -1]
                for rule in self.logit_filters:
                    rule.apply(logits, tokens)
                tokens, completed = self.decoder.update(tokens, logits, sums)
                self._sums[rows, step:] = sums[:, None]
                texts[rows, : tokens.shape[1]] = tokens
                if completed or tokens.shape[1] > self.n_ctx:
                    break
                windows = self.decoder.unfinished(tokens)
                if len(windows) * group <= FULL * len(rows):
                    left = [window * group + row for window in windows for row in range(group)]
                    rows, tokens, sums = rows[left], tokens[left], sums[left]
                    self.decoder.keep(windows)
                    self.inference.keep(windows)
        finally:
            self.inference.cleanup_caching()
        return texts[:, : tokens.shape[1]], self._sums[:, -1], no_speech

    def _get_audio_features(self, mel: Tensor) -> Tensor:
        return mel.repeat_interleave(self.n_group, dim=0)

    def _detect_language(self, audio_features: Tensor, tokens: Tensor) -> tuple[list[str], None]:
        return [self.options.language] * len(tokens), None


class Greedy(GreedyDecoder):
    """GreedyDecoder whose rows may leave."""

    def update(self, tokens: Tensor, logits: Tensor, sum_logprobs: Tensor) -> tuple[Tensor, bool]:
        """As GreedyDecoder.update: tokens (rows, length) grow by one; true when every row has ended."""
        ended = tokens[:, -1] == self.eot
        following = self.choose(logits).masked_fill(ended, self.eot)
        logprobs = functional.log_softmax(logits.float(), dim=-1)
        # Not a product: the end may be forbidden in a row that has ended, and minus infinity times 0 is NaN.
        sum_logprobs += logprobs.gather(1, following[:, None])[:, 0].masked_fill(ended, 0.0)
        tokens = torch.cat([tokens, following[:, None]], dim=-1)
        return tokens, bool((tokens[:, -1] == self.eot).all())

    def choose(self, logits: Tensor) -> Tensor:
        """The next token of each row: shape (rows,)."""
        return logits.argmax(dim=-1)

    def unfinished(self, tokens: Tensor) -> list[int]:
        """The windows, by their place among the present ones, whose text goes on."""
        left: list[int] = (tokens[:, -1] != self.eot).nonzero()[:, 0].tolist()
        return left

    def keep(self, windows: Sequence[int]) -> None:
        """Forget all windows but these."""


class RowSampler(Greedy):
    """Sampling in which each row draws from a generator of its own: the global one is left alone."""

    def __init__(self, temperature: float, eot: int, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(temperature, eot)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def choose(self, logits: Tensor) -> Tensor:
        """As Greedy.choose."""
        probabilities = functional.softmax(logits.float() / self.temperature, dim=-1)
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(probabilities, self.generators, strict=True)
        ]
        return torch.cat(drawn)

    def keep(self, windows: Sequence[int]) -> None:
        """As Greedy.keep."""
        self.generators = [self.generators[window] for window in windows]


class Beams(BeamSearchDecoder):
    """BeamSearchDecoder that ranks the candidates of all windows at once."""

    finished_sequences: list[dict[tuple[int, ...], float]] | None
    present: Sequence[dict[tuple[int, ...], float]] = ()
    """Those of the windows that have not left."""

    def update(self, tokens: Tensor, logits: Tensor, sum_logprobs: Tensor) -> tuple[Tensor, bool]:
        """As BeamSearchDecoder.update: tokens (rows, length) grow by one; true when every window has its texts."""
        size, choices = self.beam_size, self.beam_size + 1
        windows = len(tokens) // size
        gained, following = functional.log_softmax(logits.float(), dim=-1).topk(choices)
        scores = (sum_logprobs[:, None] + gained).view(windows, size, choices)
        if self.finished_sequences is None:
            self.present = self.finished_sequences = [{} for _ in range(windows)]
            scores[:, 1:] = float("-inf")  # all beams of a window are still the same
        ranked, places = scores.view(windows, -1).sort(dim=-1, descending=True, stable=True)
        candidates = following.view(windows, -1).gather(1, places).tolist()
        kept: list[tuple[int, int, float]] = []
        for window, texts in enumerate(self.present):
            ranking = zip(candidates[window], ranked[window].tolist(), places[window].tolist(), strict=True)
            before = len(kept)
            for token, score, place in ranking:
                row = window * size + place // choices
                if token != self.eot:
                    kept.append((row, token, score))
                elif len(texts) < self.max_candidates:
                    texts[(*tokens[row].tolist(), token)] = score
                if len(kept) - before == size:
                    break
        sources = [row for row, _, _ in kept]
        self.inference.rearrange_kv_cache(sources)
        sum_logprobs.copy_(torch.tensor([score for _, _, score in kept]))
        added = torch.tensor([token for _, token, _ in kept], device=tokens.device)
        tokens = torch.cat([tokens[sources], added[:, None]], dim=-1)
        return tokens, not self.unfinished(tokens)

    def unfinished(self, _tokens: Tensor) -> list[int]:
        """As Greedy.unfinished."""
        return [window for window, texts in enumerate(self.present) if len(texts) < self.max_candidates]

    def keep(self, windows: Sequence[int]) -> None:
        """As Greedy.keep."""
        self.present = [self.present[window] for window in windows]


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
        any_stamp = stamps.float().logsumexp(dim=-1)
        text.masked_fill_((any_stamp > text.float().amax(dim=-1))[:, None], minus)
