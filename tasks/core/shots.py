"""Cuts between shots: how much each frame differs from the one before, and which differences stand out.

The measure and the rule are those of PySceneDetect's AdaptiveDetector. It needs every frame in order in one process;
here batches measure their own frames wherever they are decoded, and the rule is applied to all of them afterwards.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.core.errors import CorruptMedia
from tasks.core.options import SceneOptions
from tasks.core.schema import SceneChange

WIDTH = 256
"""Frames are compared at about this width in pixels, as PySceneDetect does; noise and small movement vanish there."""

MOST_RATIO = 255.0
LEAST_AVERAGE = 1e-5


@dataclass
class ShotScores:
    """T frames in order of time: every one that the video has in a stretch."""

    times: list[float] = field(default_factory=list)
    """Media time of each frame, seconds."""
    scores: list[float] = field(default_factory=list)
    """Mean difference of hue, saturation and value (0 to 255) from the frame before; 0 for the media's first."""


class ShotMeter:
    """Measures frames that are shown to it in order of time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets what was seen."""
        self.found = ShotScores()
        self._last: np.ndarray | None = None

    def see(self, time: float | None, image: np.ndarray) -> None:
        """`image` is BGR uint8 (height, width, 3); without a time it is only what the next one is compared with."""
        import cv2

        colours = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        if time is not None:
            last = self._last if self._last is not None and self._last.shape == colours.shape else colours
            self.found.times.append(time)
            self.found.scores.append(cv2.norm(colours, last, cv2.NORM_L1) / colours.size)
        self._last = colours


def find_cuts(batches: Sequence[ShotScores], options: SceneOptions) -> list[SceneChange]:
    """The first frame of each new shot.

    A frame opens a shot where its score is at least options.shot_score and at least options.shot_ratio times the mean
    score of the options.shot_window frames on either side, and the last cut, or the beginning, is at least
    options.shot_length_s ago.
    """
    times = np.concatenate([batch.times for batch in batches]) if batches else np.zeros(0)
    scores = np.concatenate([batch.scores for batch in batches]) if batches else np.zeros(0)
    around = options.shot_window
    if scores.size < 2 * around + 1:
        return []
    order = np.argsort(times, kind="stable")
    times, scores = times[order], scores[order]
    sums = np.convolve(scores, np.ones(2 * around + 1), "valid")
    middle = scores[around:-around]
    average = (sums - middle) / (2 * around)
    ratios = np.where(
        average >= LEAST_AVERAGE, np.minimum(middle / np.maximum(average, LEAST_AVERAGE), MOST_RATIO), MOST_RATIO
    )
    cuts: list[SceneChange] = []
    last = times[0]
    for at in np.flatnonzero((ratios >= options.shot_ratio) & (middle >= options.shot_score)) + around:
        if times[at] - last >= options.shot_length_s:
            last = times[at]
            cuts.append(SceneChange(time=float(times[at]), method="shot", score=round(float(scores[at]), 4)))
    return cuts


def save_shots(found: ShotScores, path: Path) -> None:
    """Writes one .npz file: times (T,) float64 and scores (T,) float32."""
    np.savez(path, times=np.asarray(found.times, np.float64), scores=np.asarray(found.scores, np.float32))


def load_shots(path: Path) -> ShotScores:
    """Reads what save_shots wrote. Raises CorruptMedia when the artifact is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            times, scores = stored["times"], stored["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptMedia(f"{path}: no stored shot scores; delete the artifact and run again") from error
    if times.ndim != 1 or times.shape != scores.shape:
        raise CorruptMedia(f"{path}: damaged shot scores; delete the artifact and run again")
    return ShotScores(times.tolist(), scores.tolist())
