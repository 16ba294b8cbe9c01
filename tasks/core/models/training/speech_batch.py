"""Windows to training tensors: mel, token inputs, soft labels, and where each token is heard."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from whisper.audio import HOP_LENGTH, log_mel_spectrogram

from tasks.core.models.training.phrases import WORDS
from tasks.core.models.training.speech_data import Window
from tasks.core.models.training.speech_model import (
    EOT,
    FIRST_TIMESTAMP,
    N_TIMESTAMPS,
    NO_SPEECH,
    NO_TIMESTAMPS,
    SOT,
    WORD_INDEX,
)

FRAMES_PER_S = 50
"""Encoder frames, and timestamp tokens, per second."""

IGNORE = -100
LAST_INITIAL = 50
"""Whisper's default max_initial_timestamp, 1.0 s, as a timestamp index."""


@dataclass(frozen=True)
class Batch:
    """B windows of T encoder frames and L tokens.

    mel (B, 80, 2T); tokens, labels (B, L); heard (B, L, 2): encoder frames [from, to) where the labelled token sounds,
    -1 where none; frame_labels (B, T): 0 or 1 + word; offset: frame of the 30 s window that the first frame stands for.
    """

    mel: Tensor
    tokens: Tensor
    labels: Tensor
    heard: Tensor
    frame_labels: Tensor
    offset: int


def window_mel(window: Window) -> Tensor:
    """Log mel of one window, (80, 2T), padded in the way that the window says."""
    mel: Tensor = log_mel_spectrogram(torch.from_numpy(window.audio))
    frames = window.content // HOP_LENGTH
    if window.zero_padded_mel and frames < mel.shape[1]:
        mel[:, frames:] = 0.0
    return mel


def _tokens_of(
    window: Window, offset: int, plain: bool, rng: np.random.Generator
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    def stamp(seconds: float) -> int:
        return FIRST_TIMESTAMP + min(max(offset + round(seconds * FRAMES_PER_S), 0), N_TIMESTAMPS - 1)

    labels: list[int] = [IGNORE] if plain else []
    heard: list[tuple[int, int]] = [(-1, -1)] if plain else []

    def add_stamp(seconds: float) -> None:
        frame = round(seconds * FRAMES_PER_S)
        labels.append(stamp(seconds))
        heard.append((max(frame - 3, 0), frame + 3))

    for segment in window.segments:
        if not plain:
            add_stamp(segment.start_s)
        for word, (start, end) in zip(segment.text.split(), segment.word_times, strict=True):
            first = int(start * FRAMES_PER_S)
            labels.append(WORD_INDEX[word])
            heard.append((first, max(round(end * FRAMES_PER_S), first + 2)))
        if not plain:
            add_stamp(segment.end_s)
    if window.cut_start_s is not None and not plain:
        add_stamp(window.cut_start_s)
    if not window.segments:
        silent = [NO_SPEECH] if not plain else [IGNORE]
        first_input = NO_TIMESTAMPS if plain else FIRST_TIMESTAMP + int(rng.integers(0, LAST_INITIAL + 1))
        return [SOT, first_input], [*silent, EOT], [(-1, -1)] * 2
    labels.append(EOT)
    heard.append((-1, -1))
    inputs = [SOT] + [NO_TIMESTAMPS if label == IGNORE else label for label in labels[:-1]]
    return _disturb(inputs, rng), labels, heard


def _disturb(inputs: list[int], rng: np.random.Generator) -> list[int]:
    """Token inputs with small errors, so that decoding goes on well after one."""
    result = list(inputs)
    for i, token in enumerate(result):
        if token >= FIRST_TIMESTAMP and rng.random() < 0.3:
            result[i] = int(np.clip(token + rng.integers(-3, 4), FIRST_TIMESTAMP, FIRST_TIMESTAMP + N_TIMESTAMPS - 1))
        elif token < len(WORDS) and rng.random() < 0.04:
            result[i] = int(rng.integers(len(WORDS)))
    if len(result) > 1 and result[1] > FIRST_TIMESTAMP + LAST_INITIAL and rng.random() < 0.5:
        near_limit = rng.random() < 0.6
        result[1] = FIRST_TIMESTAMP + (LAST_INITIAL if near_limit else int(rng.integers(0, LAST_INITIAL + 1)))
    return result


def make_batch(windows: Sequence[Window], offset: int, rng: np.random.Generator, plain_share: float) -> Batch:
    """One batch of windows of equal length; `plain_share` of them, drawn, without timestamps."""
    mel = torch.stack([window_mel(window) for window in windows])
    frames = mel.shape[2] // 2
    rows = [_tokens_of(window, offset, bool(rng.random() < plain_share), rng) for window in windows]
    length = max(len(inputs) for inputs, _, _ in rows)
    tokens = torch.full((len(rows), length), EOT)
    labels = torch.full((len(rows), length), IGNORE)
    heard = torch.full((len(rows), length, 2), -1)
    frame_labels = torch.zeros(len(rows), frames, dtype=torch.long)
    for i, (inputs, targets, spans) in enumerate(rows):
        tokens[i, : len(inputs)] = torch.tensor(inputs)
        labels[i, : len(targets)] = torch.tensor(targets)
        heard[i, : len(spans)] = torch.tensor(spans)
        for segment in windows[i].segments:
            for word, (start, end) in zip(segment.text.split(), segment.word_times, strict=True):
                frame_labels[i, int(start * FRAMES_PER_S) : int(end * FRAMES_PER_S)] = 1 + WORD_INDEX[word]
        cut = windows[i].cut_start_s
        if cut is not None:
            frame_labels[i, int(cut * FRAMES_PER_S) :] = IGNORE
    return Batch(mel, tokens, labels, heard, frame_labels, offset)
