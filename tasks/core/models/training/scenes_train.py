"""Training of the bundled SigLIP-type model: shapes patch by patch, then texts."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.models.training.drawing import CLASSES
from tasks.core.models.training.muon import Muon
from tasks.core.models.training.scenes import COLOURS
from tasks.core.models.training.scenes_loss import Claims, draw, losses
from tasks.core.models.training.scenes_model import make_model, make_tokenizer, save_model

BATCH = 64
POOL, FRESH = 1024, 16
"""Pictures kept, and how many of them each step replaces with new ones: drawing costs as much as learning."""
WARM_UP_STEPS = 50
AVERAGE = 0.995
"""Weight of the past in the averaged weights that are kept."""
FIRST_BIAS = -4.0
SAVE_EVERY_STEPS = 250


STEPS = 2400
RATES = (3e-3, 1.5e-3)
"""First learning rates of the layers' matrices (Muon) and of all else (AdamW)."""
TEXTS_FROM = 0.35
"""Share of the steps after which texts join: shapes are learned first, patch by patch."""
CLAIMS = Claims(pairs=24, parts=16, near_misses=16)


def train_scenes(folder: Path, seed: int) -> float:
    """Trains and saves the model into `folder`; returns the seconds that it took."""
    started = time.monotonic()
    _train(_fresh(seed), folder, np.random.default_rng(seed))
    return time.monotonic() - started


def _fresh(seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    model = make_model()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10))
        model.logit_bias.fill_(FIRST_BIAS)
    return model


def _train(model: Any, folder: Path, rng: np.random.Generator) -> None:
    import torch

    started, tokenizer = time.monotonic(), make_tokenizer()
    width = model.config.vision_config.hidden_size
    heads = torch.nn.Linear(width, 1 + len(COLOURS) + 1 + len(CLASSES))
    parameters = [*model.parameters(), *heads.parameters()]
    towers = (model.vision_model, model.text_model)
    matrices = [weights for tower in towers for weights in tower.encoder.parameters() if weights.ndim == 2]
    others = [weights for weights in parameters if all(weights is not matrix for matrix in matrices)]
    adam = torch.optim.AdamW(others, lr=RATES[1], betas=(0.9, 0.98), weight_decay=0.02)
    optimizers = [(RATES[0], Muon(matrices, lr=RATES[0])), (RATES[1], adam)]
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    pool = [draw(rng) for _ in range(POOL)]
    model.train()
    for step in range(STEPS):
        for rate, optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(step, STEPS)
        for number in rng.integers(0, POOL, FRESH if step else 0):
            pool[number] = draw(rng)
        drawn = [pool[number] for number in rng.permutation(POOL)[:BATCH]]
        claims = CLAIMS if step >= TEXTS_FROM * STEPS else None
        named = losses(model, tokenizer, heads, drawn, rng, claims)
        sum(named.values()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for _, optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)
        if step % 50 == 0 or step == STEPS - 1:
            shown = ", ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in named.items())
            print(f"scenes: step {step} of {STEPS}, {time.monotonic() - started:.0f} s: {shown}", flush=True)
        if step % SAVE_EVERY_STEPS == SAVE_EVERY_STEPS - 1:
            save_model(_copy(average.module), folder)
    save_model(_copy(average.module), folder)


def _copy(model: Any) -> Any:
    made = make_model()
    made.load_state_dict(model.state_dict())
    return made


def _schedule(step: int, steps: int) -> float:
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / (steps - WARM_UP_STEPS)))
