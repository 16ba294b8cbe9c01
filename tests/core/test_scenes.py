"""Scene changes by the moving average of embeddings, exactly as defined, however the frames are divided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.options import SceneOptions
from tasks.core.scenes import EmaScenes
from tasks.core.schema import SceneChange

Vectors = npt.NDArray[np.float32]


def walk(count: int, seed: int = 1, dimensions: int = 32) -> Vectors:
    """Unit vectors that drift, and jump now and then."""
    choose = np.random.default_rng(seed)
    vector, rows = choose.standard_normal(dimensions), []
    for _ in range(count):
        if choose.random() < 0.08:
            vector = choose.standard_normal(dimensions)
        vector = vector + 0.15 * choose.standard_normal(dimensions)
        vector /= np.linalg.norm(vector)
        rows.append(vector)
    return np.asarray(rows, np.float32)


def by_definition(vectors: Vectors, alpha: float, threshold: float) -> list[tuple[int, float]]:
    average = vectors[0].astype(float)
    found = []
    for number in range(1, len(vectors)):
        frame = vectors[number].astype(float)
        score = max(0.0, 1 - frame @ average)
        if score >= threshold:
            found.append((number, score))
        average = alpha * average + (1 - alpha) * frame
        average = average / np.linalg.norm(average)
    return found


@pytest.mark.parametrize(("alpha", "threshold"), [(0.9, 0.15), (0.5, 0.3), (0.0, 0.05)])
def test_the_definition(alpha: float, threshold: float) -> None:
    vectors = walk(300)
    found = EmaScenes(SceneOptions(alpha=alpha, threshold=threshold)).update(range(300), vectors)
    wanted = by_definition(vectors, alpha, threshold)
    assert [change.time for change in found] == [number for number, _ in wanted]
    assert [change.score for change in found] == pytest.approx([score for _, score in wanted], abs=1e-6)
    assert len(found) > 10
    assert {change.method for change in found} == {"ema"}


@pytest.mark.parametrize("size", [1, 2, 7, 64, 299, 300])
def test_any_batch_size_gives_the_same_changes(size: int) -> None:
    vectors = walk(300, seed=2)
    whole = EmaScenes(SceneOptions()).update(range(300), vectors)
    state, found = EmaScenes(SceneOptions()), list[SceneChange]()
    for low in range(0, 300, size):
        found += state.update(range(low, min(low + size, 300)), vectors[low : low + size])
    assert found == whole != []


def test_the_first_frame_is_no_change_and_opposite_frames_score_two() -> None:
    up = np.eye(4, dtype=np.float32)
    state = EmaScenes(SceneOptions())
    assert state.update([0.0], up[:1]) == []
    [change] = state.update([1.0], -up[:1])
    assert change.score == 2.0
    assert EmaScenes(SceneOptions()).update([], np.zeros((0, 4), np.float32)) == []


def test_vectors_of_another_model_are_refused() -> None:
    state = EmaScenes(SceneOptions())
    state.update([0.0], np.eye(4, dtype=np.float32)[:1])
    with pytest.raises(ValueError, match="5 numbers after one of 4"):
        state.update([1.0], np.eye(5, dtype=np.float32)[:1])
