"""The Muon optimizer in float32: torch's own multiplies in bfloat16, which is slow on a CPU without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
STEPS = 5
LIKE_ADAM = 0.2
"""Makes an update as large as AdamW's, so that one learning rate serves both."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each matrix is made orthogonal. (Jordan et al. 2024; scaled as in Liu et al. 2025.)"""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix (two dimensions) that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(momentum, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * LIKE_ADAM * max(matrix.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with singular values of about 1, by five steps of Newton and Schulz."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / (found.norm() + 1e-7)
    first, second, third = NEWTON_SCHULZ
    for _ in range(STEPS):
        product = found @ found.T
        found = first * found + (second * product + third * product @ product) @ found
    made: torch.Tensor = found.T if tall else found
    return made
