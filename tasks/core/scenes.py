"""Scene changes by meaning: frames whose embedding leaves the moving average of those before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.core.options import SceneOptions
from tasks.core.schema import SceneChange


class EmaScenes:
    """Follows the exponential moving average (EMA) of a media's frame vectors, in order of time.

    The average starts as the first frame. A frame's score is max(0, 1 - frame . average) before it enters the average;
    then average = alpha average + (1 - alpha) frame, made length 1 again. How the frames are divided among calls makes
    no difference.
    """

    def __init__(self, options: SceneOptions) -> None:
        self._options = options
        self._average: npt.NDArray[np.float64] | None = None

    def update(self, times: Sequence[float], vectors: npt.NDArray[np.float32]) -> list[SceneChange]:
        """The changes among the next T frames; vectors are (T, D), each of length 1.

        Raises ValueError where the number of dimensions is not that of the frames before.
        """
        alpha, changes = self._options.alpha, []
        for time, vector in zip(times, vectors.astype(np.float64), strict=True):
            if self._average is None:
                self._average = vector
                continue
            if vector.shape != self._average.shape:
                raise ValueError(f"a vector of {vector.size} numbers after one of {self._average.size}")
            score = max(0.0, 1.0 - float(vector @ self._average))
            if score >= self._options.threshold:
                changes.append(SceneChange(time=time, method="ema", score=round(score, 6)))
            mixed = alpha * self._average + (1 - alpha) * vector
            self._average = mixed / max(float(np.linalg.norm(mixed)), np.finfo(np.float64).tiny)
        return changes
