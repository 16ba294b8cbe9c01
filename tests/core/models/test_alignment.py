"""The warping path against the recurrence written out cell by cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.models.alignment import dtw


def plain(cost: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """whisper.timing.dtw_cpu and backtrace, in Python."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    trace = np.full(total.shape, -1)
    for j in range(1, columns + 1):
        for i in range(1, rows + 1):
            both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if both < down and both < right:
                best, trace[i, j] = both, 0
            elif down < both and down < right:
                best, trace[i, j] = down, 1
            else:
                best, trace[i, j] = right, 2
            total[i, j] = cost[i - 1, j - 1] + best
    trace[0, :], trace[:, 0] = 2, 1
    i, j, path = rows, columns, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        step = trace[i, j]
        i, j = i - (step != 2), j - (step != 1)
    return path[::-1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (12, 40), (40, 12)])
@pytest.mark.parametrize("ties", [False, True])
def test_path_equals_the_recurrence(shape: tuple[int, int], ties: bool) -> None:
    cost = np.random.default_rng(sum(shape)).standard_normal(shape)
    cost = np.round(cost) if ties else cost
    assert list(zip(*dtw(cost).tolist(), strict=True)) == plain(cost)
