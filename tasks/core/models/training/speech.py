"""Training of the bundled Whisper: short windows at random offsets first, then whole 30 s windows."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.core.models.training.espeak import Utterance
from tasks.core.models.training.speech_batch import FRAMES_PER_S, IGNORE, Batch, make_batch
from tasks.core.models.training.speech_data import compose, compose_empty, make_corpus
from tasks.core.models.training.speech_model import (
    FIRST_TIMESTAMP,
    N_COMPACT,
    NO_SPEECH,
    TrainableWhisper,
    export_checkpoint,
    gaussian_weights,
)

CORPUS_SIZE = 20_000
FRAME_LOSS, ATTENTION_LOSS = 0.5, 0.15


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    `peak` is the highest learning rate, `final` its share at the end; `plain_share` of the windows carry no timestamps,
    `empty_share` no speech.  In those the no-speech token should get the probability `silence`; the timestamps share
    the rest evenly, so that Whisper's own silence rule (no-speech above 0.6, mean log probability below -1) holds.
    """

    window_s: float
    batch: int
    steps: int
    peak: float
    warmup: int
    final: float
    ema: float
    random_offset: bool
    plain_share: float
    empty_share: float
    silence: float


_LONG = Phase(
    window_s=30.0,
    batch=8,
    steps=420,
    peak=1e-3,
    warmup=20,
    final=0.03,
    ema=0.98,
    random_offset=False,
    plain_share=0.2,
    empty_share=0.1,
    silence=0.95,
)
PHASES = (
    Phase(
        window_s=6.0,
        batch=32,
        steps=1150,
        peak=1.8e-3,
        warmup=60,
        final=0.2,
        ema=0.99,
        random_offset=True,
        plain_share=0.2,
        empty_share=0.1,
        silence=0.95,
    ),
    _LONG,
    replace(_LONG, steps=520, peak=1.2e-3, warmup=10, ema=0.99, plain_share=0.12),
    replace(_LONG, steps=560, peak=1.1e-3, warmup=10, ema=0.99, final=0.02, empty_share=0.15, silence=0.85),
    replace(_LONG, steps=520, peak=1.1e-3, warmup=10, ema=0.99, final=0.02, plain_share=0.06, silence=0.85),
)
"""Short windows at random offsets, then whole ones; the later phases restart the learning rate."""


def learning_rate(phase: Phase, step: int) -> float:
    """Linear warm-up, then half a cosine down to `final`."""
    if step < phase.warmup:
        return phase.peak * (step + 1) / phase.warmup
    done = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.peak * (phase.final + (1 - phase.final) * 0.5 * (1 + math.cos(math.pi * done)))


def token_loss(logits: Tensor, labels: Tensor, weights: Tensor, silence: float) -> Tensor:
    """Mean cross entropy of labelled tokens; timestamps are labelled softly, silence leaves a rest to all times."""
    scores = F.log_softmax(logits, dim=-1)[labels != IGNORE]
    kept = labels[labels != IGNORE]
    reach = len(weights) // 2
    hard = -scores.gather(1, kept[:, None])[:, 0]
    near = (kept[:, None] + torch.arange(-reach, reach + 1)).clamp(FIRST_TIMESTAMP, N_COMPACT - 1)
    soft = -(scores.gather(1, near) * weights).sum(1)
    silent = silence * hard - (1 - silence) * scores[:, FIRST_TIMESTAMP:].mean(1)
    loss = torch.where(kept >= FIRST_TIMESTAMP, soft, torch.where(kept == NO_SPEECH, silent, hard))
    return loss.mean()


def attention_loss(attention: Tensor, heard: Tensor) -> Tensor:
    """Mean of -log(attention inside the token's own span), over tokens that have one; attention (B, H, L, T)."""
    frames = torch.arange(attention.shape[-1])
    first, last = heard[..., :1], heard[..., 1:]
    inside = (frames >= first) & (frames < last)
    known = (heard[..., 0] >= 0) & inside.any(-1)
    mass = attention.masked_fill(~inside[:, None], -30.0).logsumexp(-1)
    return -mass.mean(1)[known].mean()


def batch_loss(
    model: TrainableWhisper, batch: Batch, weights: Tensor, silence: float
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum that training lowers, and its parts by name."""
    audio = model.encode(batch.mel, batch.offset)
    logits, attention = model.decode(batch.tokens, audio)
    tokens = token_loss(logits, batch.labels, weights, silence)
    frames = F.cross_entropy(model.frame_words(audio).transpose(1, 2), batch.frame_labels, ignore_index=IGNORE)
    aligned = attention_loss(attention, batch.heard)
    total = tokens + FRAME_LOSS * frames + ATTENTION_LOSS * aligned
    return total, {"tokens": tokens.item(), "frames": frames.item(), "attention": aligned.item()}


def draw_batch(corpus: Sequence[Utterance], phase: Phase, rng: np.random.Generator) -> Batch:
    windows = [
        compose_empty(phase.window_s, rng) if rng.random() < phase.empty_share else compose(corpus, phase.window_s, rng)
        for _ in range(phase.batch)
    ]
    last = int((30.0 - phase.window_s) * FRAMES_PER_S)
    offset = int(rng.integers(0, last + 1)) if phase.random_offset and rng.random() < 0.8 else 0
    return make_batch(windows, offset, rng, phase.plain_share)


def run_phase(
    model: TrainableWhisper, corpus: Sequence[Utterance], phase: Phase, seed: int, checkpoint: Path
) -> TrainableWhisper:
    """Train in place; the averaged weights (EMA) come back and are saved at `checkpoint` along the way."""
    rng = np.random.default_rng(seed)
    average = copy.deepcopy(model).requires_grad_(False)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    weights = gaussian_weights()
    started = time.monotonic()
    for step in range(phase.steps):
        batch = draw_batch(corpus, phase, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step)
        loss, parts = batch_loss(model, batch, weights, phase.silence)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(phase.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(theirs, 1 - decay)
        if step % 25 == 0 or step == phase.steps - 1:
            elapsed = time.monotonic() - started
            shown = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            print(f"{phase.window_s:.0f} s windows, step {step}/{phase.steps}: {shown} {elapsed:.0f} s")
        if step % 100 == 99 or step == phase.steps - 1:
            torch.save(average.state_dict(), checkpoint)
    return average


def train_speech(work: Path, target: Path, seed: int) -> float:
    """Train and export the checkpoint to `target`; returns seconds taken."""
    started = time.monotonic()
    torch.manual_seed(seed)
    corpus = make_corpus(CORPUS_SIZE, seed, held_out=False)
    print(f"speech corpus: {len(corpus)} utterances in {time.monotonic() - started:.0f} s", flush=True)
    model = TrainableWhisper()
    for number, phase in enumerate(PHASES, 1):
        model.requires_grad_(True)
        average = run_phase(model, corpus, phase, seed + number, work / f"speech-phase{number}.pt")
        model.load_state_dict(average.state_dict())
    torch.save(export_checkpoint(model), target)
    return time.monotonic() - started
