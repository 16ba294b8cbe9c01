"""Dynamic time warping for Whisper's word timestamps, without a compiler.

openai-whisper's own is compiled by numba when first called, in every process anew: 7 s on one core, for a window that
takes a quarter of a second. This one goes along anti-diagonals with NumPy, as fast, and returns the same path.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dtw(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Cheapest monotonic path through a cost matrix (rows, columns): indices of shape (2, path length).

    Steps are to the next row and column, the next row, or the next column; ties as in `whisper.timing.dtw_cpu`.
    """
    rows, columns = cost.shape
    trace = np.full((rows + 1, columns + 1), 2, np.int8)
    trace[1:, 0] = 1
    before, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    before[0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        both, down, right = before[row - 1], last[row - 1], last[row]
        step = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        trace[row, column] = step
        current = np.full(rows + 1, np.inf)
        current[row] = cost[row - 1, column - 1] + np.choose(step, (both, down, right))
        before, last = last, current
    row_now, column_now = rows, columns
    path = []
    while row_now > 0 or column_now > 0:
        path.append((row_now - 1, column_now - 1))
        step_now = trace[row_now, column_now]
        row_now -= step_now != 2
        column_now -= step_now != 1
    return np.array(path[::-1], np.int64).T
