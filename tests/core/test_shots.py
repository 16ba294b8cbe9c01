"""The measure and the rule of cuts are PySceneDetect's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from scenedetect import AdaptiveDetector, ContentDetector
from scenedetect.common import FrameTimecode

from tasks.core.errors import DamagedArtifact
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, FrameOptions, LimitOptions, SceneOptions
from tasks.core.probe import probe
from tasks.core.shots import ShotMeter, ShotScores, find_cuts, load_shots, save_shots

FPS = 25.0


def moving(count: int, seed: int) -> list[np.ndarray]:
    """Noise that changes a little from frame to frame and wholly at some frames."""
    choose = np.random.default_rng(seed)
    picture = choose.integers(0, 255, (36, 64, 3))
    images = []
    for _ in range(count):
        if choose.random() < 0.04:
            picture = choose.integers(0, 255, (36, 64, 3))
        picture = np.clip(picture + choose.normal(0, choose.uniform(0, 12), picture.shape), 0, 255)
        images.append(picture.astype(np.uint8))
    return images


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_cuts_equal_those_of_pyscenedetect(seed: int) -> None:
    images, meter = moving(400, seed), ShotMeter()
    theirs, adaptive = ContentDetector(), AdaptiveDetector(min_scene_len=15)
    scores, cuts = [], []
    for number, image in enumerate(images):
        meter.see(number / FPS, image)
        theirs.process_frame(FrameTimecode(number, FPS), image)
        scores.append(theirs._frame_score)
        cuts += [found.frame_num for found in adaptive.process_frame(FrameTimecode(number, FPS), image)]
    assert meter.found.scores == pytest.approx(scores, abs=1e-9)
    found = find_cuts([meter.found], SceneOptions())
    assert [round(cut.time * FPS) for cut in found] == cuts
    assert len(cuts) > 5
    assert {cut.method for cut in found} == {"shot"}


def test_batches_in_any_order_give_the_same_cuts() -> None:
    meter = ShotMeter()
    for number, image in enumerate(moving(300, 7)):
        meter.see(number / FPS, image)
    parts = [ShotScores(meter.found.times[k : k + 37], meter.found.scores[k : k + 37]) for k in range(0, 300, 37)]
    assert find_cuts(parts[::-1], SceneOptions()) == find_cuts([meter.found], SceneOptions()) != []
    assert find_cuts([], SceneOptions()) == find_cuts([ShotScores([0.0], [0.0])], SceneOptions()) == []


def test_a_still_picture_before_a_cut() -> None:
    scores = [0.0] * 20 + [40.0] + [0.0] * 20
    [cut] = find_cuts([ShotScores([k / FPS for k in range(41)], scores)], SceneOptions())
    assert (cut.time, cut.score) == (20 / FPS, 40.0)


def test_frames_that_change_their_size_are_not_compared() -> None:
    meter = ShotMeter()
    meter.see(0.0, np.zeros((4, 4, 3), np.uint8))
    meter.see(0.1, np.full((8, 8, 3), 255, np.uint8))
    assert meter.found.scores == [0, 0]


def test_stored_scores_come_back(tmp_path: Path) -> None:
    path = tmp_path / "shots.npz"
    pair = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    save_shots(ShotScores([0.0, 0.04], [0.0, 1.5], {0.04: pair}), path)
    stored = load_shots(path)
    assert (stored.times, stored.scores, list(stored.gists)) == ([0.0, 0.04], [0.0, 1.5], [0.04])
    assert np.array_equal(stored.gists[0.04], pair)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DamagedArtifact, match="no stored shot scores"):
        load_shots(path)


def test_cuts_of_a_real_film_are_frame_accurate(shared_media: Path) -> None:
    path = shared_media / "video" / "sintel.mp4"
    info = probe(path, LimitOptions(), AudioOptions())
    options = FrameOptions(batch_size=8)
    batches = plan_batches(info, options, embed_fps=Fraction(16, 10), shots=True)
    parts = [found for batch in batches if (found := sample_frames(path, info, batch, options, 2).shots)]
    with av.open(str(path)) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert [time for part in parts for time in part.times] == pytest.approx(times, abs=1e-6)
    cuts = [times.index(min(times, key=lambda t: abs(t - cut.time))) for cut in find_cuts(parts, SceneOptions())]
    truth = [76, 121, 319, 457, 545, 611]
    assert [cut for cut in truth if min(abs(cut - found) for found in cuts) <= 1] == truth
    assert len(cuts) <= 7


def test_cuts_are_looked_for_in_colour() -> None:
    """Two pictures of the same brightness and different hue."""
    hsv = np.full((10, 10, 3), (0, 200, 200), np.uint8)
    other = np.full((10, 10, 3), (90, 200, 200), np.uint8)
    meter = ShotMeter()
    for number in range(40):
        meter.see(number / FPS, np.asarray(cv2.cvtColor(hsv if number < 20 else other, cv2.COLOR_HSV2BGR)))
    assert [cut.time for cut in find_cuts([meter.found], SceneOptions())] == [20 / FPS]


def cuts_of(path: Path) -> list[float]:
    info, options = probe(path, LimitOptions(), AudioOptions()), FrameOptions(batch_size=8)
    batches = plan_batches(info, options, shots=True)
    parts = [found for batch in batches if (found := sample_frames(path, info, batch, options, 1).shots)]
    return [cut.time for cut in find_cuts(parts, SceneOptions())]


@pytest.mark.parametrize("name", ["sintel12in60_s.mp4", "native4fps.mp4", "flash.mp4"])
def test_neither_repeated_pictures_nor_a_flash_are_cuts(shared_cases: Path, name: str) -> None:
    assert cuts_of(shared_cases / name) == []


def test_real_cuts_stay(shared_media: Path) -> None:
    assert cuts_of(shared_media / "video" / "psd_testvideo.mp4") == pytest.approx([1.0, 6.01, 13.15, 23.06], abs=0.02)


@pytest.mark.parametrize(("pictures", "frames"), [(12, 60), (4, 30), (24, 60), (10, 25)])
def test_a_cut_among_repeated_pictures_is_the_only_one(pictures: int, frames: int) -> None:
    scores = [20.0 if n * pictures // frames != (n - 1) * pictures // frames else 0.3 for n in range(10 * frames)]
    middle = next(n for n in range(5 * frames, 6 * frames) if scores[n] > 1)
    scores[middle] = 120.0
    found = ShotScores([n / frames for n in range(len(scores))], scores)
    assert [round(cut.time * frames) for cut in find_cuts([found], SceneOptions())] == [middle]


@pytest.mark.parametrize("length", [1, 3])
def test_a_flash_leaves_the_picture_and_a_cut_does_not(length: int) -> None:
    """Also where batches meet within it."""
    first, second = (np.random.default_rng(seed).integers(0, 200, (144, 256, 3)).astype(np.uint8) for seed in (1, 2))
    first[:, :128], second[:, 128:] = 40, 90
    white = np.full_like(first, 255)
    shown = [first] * 30 + [white] * length + [first] * 30 + [second] * 30
    whole, parts = ShotMeter(), [ShotMeter(), ShotMeter()]
    for number, image in enumerate(shown):
        whole.see(number / FPS, image)
        if number == 30:
            parts[1].see(None, image)
        parts[number > 30].see(number / FPS, image)
    found = find_cuts([whole.found], SceneOptions())
    assert [round(cut.time * FPS) for cut in found] == [60 + length]
    assert find_cuts([meter.found for meter in parts], SceneOptions()) == found
