"""Cuts between shots: how much each frame differs from the one before, and which differences stand out.

The measure and the rule are those of PySceneDetect's AdaptiveDetector. It needs every frame in order in one process;
here batches measure their own frames wherever they are decoded, and the rule is applied to all of them afterwards. Two
things that stand out are told from cuts besides: frames of a video whose pictures are each stored several times (12
pictures per second in a file of 60), and flashes, after which the picture is what it was before.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.core.archive import check_stored
from tasks.core.errors import DamagedArtifact
from tasks.core.options import SceneOptions
from tasks.core.schema import SceneChange

WIDTH = 256
"""Frames are compared at about this width in pixels, as PySceneDetect does; noise and small movement vanish there."""

MOST_RATIO = 255.0
LEAST_AVERAGE = 1e-5

REPEAT_SHARE = 0.2
"""Frames that differ so little from the one before, measured by the changes on both sides, are repeats of a picture."""
RHYTHM = 4
"""Pictures before and after one that make a rhythm with it."""
UNSTEADY = 1.6
"""Longest distance of pictures in a rhythm by the shortest: 24 in 60 frames are shown for three and two by turns."""
PICTURE_SHARE = 0.2
"""Frames that differ from the one before at least by this share of a change may be the next picture."""

GIST = (8, 8)
"""Columns and rows that a picture is reduced to, to tell after a change whether it has come back."""
GIST_SCORE = 10.0
"""Least score of a frame that such pictures are kept of."""
BACK_SHARE = 0.3
"""A picture has come back where it differs from that before a change by less than this share of the change."""


@dataclass
class ShotScores:
    """T frames in order of time: every one that the video has in a stretch."""

    times: list[float] = field(default_factory=list)
    """Media time of each frame, seconds."""
    scores: list[float] = field(default_factory=list)
    """Mean difference of hue, saturation and value (0 to 255) from the frame before; 0 for the media's first."""
    gists: dict[float, np.ndarray] = field(default_factory=dict)
    """By time, of the frames that differ much: the one before and this one, BGR uint8 (2, *GIST, 3)."""


class ShotMeter:
    """Measures frames that are shown to it in order of time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets what was seen."""
        self.found = ShotScores()
        self._last: np.ndarray | None = None
        self._last_image: np.ndarray | None = None

    def see(self, time: float | None, image: np.ndarray) -> None:
        """`image` is BGR uint8 (height, width, 3); without a time it is only what the next one is compared with."""
        import cv2

        colours = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        if time is not None:
            last = self._last if self._last is not None and self._last.shape == colours.shape else colours
            self.found.times.append(time)
            score = cv2.norm(colours, last, cv2.NORM_L1) / colours.size
            self.found.scores.append(score)
            if score >= GIST_SCORE and self._last_image is not None:
                self.found.gists[time] = np.stack([_gist(self._last_image), _gist(image)])
        self._last, self._last_image = colours, image


def _gist(image: np.ndarray) -> np.ndarray:
    """A few samples of each part of a picture are enough, and take a fifteenth of the time that all of them do."""
    import cv2

    samples = cv2.resize(image, (4 * GIST[0], 4 * GIST[1]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(samples, GIST, interpolation=cv2.INTER_AREA))


def find_cuts(batches: Sequence[ShotScores], options: SceneOptions) -> list[SceneChange]:
    """The first frame of each new shot.

    A frame opens a shot where its score is at least options.shot_score and at least options.shot_ratio times the mean
    score of the options.shot_window frames on either side, and the last cut, or the beginning, is at least
    options.shot_length_s ago. Where pictures are repeated, the same holds among pictures. The picture before does not
    come back within options.shot_length_s.
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
    gists = _Gists(batches)
    cuts: list[SceneChange] = []
    last, back = times[0], -np.inf
    outstanding = np.flatnonzero((ratios >= options.shot_ratio) & (middle >= options.shot_score)) + around
    for at in outstanding.tolist():
        back = max(back, gists.back_at(times[at], times[at] + options.shot_length_s))
        if times[at] <= back or _is_repeated(at, times, scores, options):
            continue
        if times[at] - last >= options.shot_length_s:
            last = times[at]
            cuts.append(SceneChange(time=float(times[at]), method="shot", score=round(float(scores[at]), 4)))
    return cuts


def _is_repeated(at: int, times: np.ndarray, scores: np.ndarray, options: SceneOptions) -> bool:
    """Is this but the next of pictures that are each stored several times, in a steady rhythm?

    Such pictures follow each other within options.shot_length_s, with nothing but repeats between them.
    """
    reach = RHYTHM * options.shot_length_s
    near = np.arange(np.searchsorted(times, times[at] - reach), np.searchsorted(times, times[at] + reach, "right"))
    pictures = near[scores[near] > PICTURE_SHARE * scores[at]]
    found: list[tuple[float, float]] = []
    for neighbours in (pictures[pictures < at][::-1], pictures[pictures > at]):
        here, steps = at, []
        for other in neighbours[:RHYTHM]:
            between = scores[min(here, other) + 1 : max(here, other)]
            steps.append(abs(times[other] - times[here]))
            if max(steps) > min(options.shot_length_s, UNSTEADY * min(steps)) or not between.size:
                break
            if np.median(between) > REPEAT_SHARE * min(scores[here], scores[other]):
                break
            found.append((abs(times[other] - times[at]), scores[other]))
            here = other
    nearest = [score for _, score in sorted(found)[:RHYTHM]]
    return len(nearest) == RHYTHM and bool(scores[at] < options.shot_ratio * np.mean(nearest))


class _Gists:
    """What pictures were before and after the great changes of a media."""

    def __init__(self, batches: Sequence[ShotScores]) -> None:
        pairs = sorted((item for batch in batches for item in batch.gists.items()), key=lambda item: item[0])
        self._times = np.array([time for time, _ in pairs])
        self._pairs = np.array([pair for _, pair in pairs], np.float32)

    def back_at(self, change: float, end: float) -> float:
        """When, before `end`, the picture before a change was last seen again; minus infinity where it was not."""
        first, after = np.searchsorted(self._times, (change, end))
        if after - first < 2 or self._times[first] != change:
            return -np.inf
        before = self._pairs[first, 0]
        away = np.abs(self._pairs[first:after, 1] - before).mean(axis=(1, 2, 3))
        returns = np.flatnonzero(away[1:] < BACK_SHARE * away[0])
        return float(self._times[first + 1 + returns[-1]]) if returns.size else -np.inf


def save_shots(found: ShotScores, path: Path) -> None:
    """Writes one .npz file: times (T,) float64, scores (T,) float32; gist_times (N,), gists (N, 2, *GIST, 3) uint8."""
    np.savez(
        path,
        times=np.asarray(found.times, np.float64),
        scores=np.asarray(found.scores, np.float32),
        gist_times=np.array(list(found.gists), np.float64),
        gists=np.array(list(found.gists.values()), np.uint8).reshape(-1, 2, *GIST, 3),
    )


def load_shots(path: Path) -> ShotScores:
    """Reads what save_shots wrote. Raises DamagedArtifact when the artifact is damaged."""
    try:
        check_stored(path)
        with np.load(path, allow_pickle=False) as stored:
            times, scores = stored["times"], stored["scores"]
            gists = dict(zip(stored["gist_times"].tolist(), stored["gists"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedArtifact(f"{path}: no stored shot scores") from error
    if times.ndim != 1 or times.shape != scores.shape:
        raise DamagedArtifact(f"{path}: damaged shot scores")
    return ShotScores(times.tolist(), scores.tolist(), gists)
