"""Batches of vectors come back from their files, and in order whatever order they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.core.bank_vectors import BankVectors
from tasks.core.describe import describe
from tasks.core.embeddings import Embeddings, concatenate, load_embeddings, save_embeddings
from tasks.core.errors import DamagedArtifact
from tasks.core.options import EmbeddingOptions, SceneOptions
from tasks.core.scenes import EmaScenes


def frames(count: int, seed: int = 1, dimensions: int = 16) -> Embeddings:
    choose = np.random.default_rng(seed)
    scenes = choose.standard_normal((count // 10 + 1, dimensions))
    vectors = scenes[np.arange(count) // 10] + 0.1 * choose.standard_normal((count, dimensions))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Embeddings(list(range(count)), [slot * 0.625 for slot in range(count)], unit)


def cut(whole: Embeddings, size: int) -> list[Embeddings]:
    starts = range(0, len(whole), size)
    return [
        Embeddings(whole.slots[k : k + size], whole.times[k : k + size], whole.vectors[k : k + size]) for k in starts
    ]


def test_stored_vectors_come_back(tmp_path: Path) -> None:
    path, found = tmp_path / "embeddings.npz", frames(7)
    save_embeddings(found, path)
    back = load_embeddings(path)
    assert (back.slots, back.times) == (found.slots, found.times)
    assert np.array_equal(back.vectors, found.vectors)
    save_embeddings(Embeddings([], [], np.zeros((0, 16), np.float32)), path)
    assert len(load_embeddings(path)) == 0
    for damage in (path.read_bytes()[:60], b"", b"PK\x03\x04nothing"):
        path.write_bytes(damage)
        with pytest.raises(DamagedArtifact, match="no stored embeddings"):
            load_embeddings(path)


def test_vectors_that_do_not_fit_their_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npz"
    np.savez(path, slots=np.zeros(3), times=np.zeros(3), vectors=np.zeros((2, 4)))
    with pytest.raises(DamagedArtifact, match="damaged"):
        load_embeddings(path)


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_batches_in_any_order_and_some_of_them_twice_are_the_whole(size: int) -> None:
    whole = frames(100)
    batches = cut(whole, size)
    shuffled = [*batches[::-1], *batches[::2], Embeddings([], [], np.zeros((0, 0), np.float32))]
    joined = concatenate(shuffled)
    assert (joined.slots, joined.times) == (whole.slots, whole.times)
    assert np.array_equal(joined.vectors, whole.vectors)
    changes = EmaScenes(SceneOptions()).update(joined.times, joined.vectors)
    assert changes == EmaScenes(SceneOptions()).update(whole.times, whole.vectors) != []
    assert len(concatenate([])) == 0


def test_chunks_tags_and_captions_by_definition() -> None:
    whole, texts = frames(40), frames(5, seed=2)
    bank = BankVectors(["a", "b", "c"], texts.vectors[:3], ["One.", "Two."], texts.vectors[3:], 2.0, -1.0)
    found = describe(whole, bank, EmbeddingOptions(), top=2, end=24.0)
    assert [(chunk.start, chunk.end) for chunk in found.chunks] == [(0, 10), (10, 20), (20, 24)]
    scores = []
    for number, chunk in enumerate(found.chunks):
        mean = whole.vectors[number * 16 : number * 16 + 16].mean(axis=0)
        cosines = texts.vectors @ (mean / np.linalg.norm(mean))
        scores.append(cosines)
        best = np.argsort(-cosines[:3])[:2]
        assert [tag.text for tag in chunk.tags] == [bank.tags[at] for at in best]
        assert [tag.score for tag in chunk.tags] == pytest.approx(cosines[best].tolist(), abs=1e-5)
        assert chunk.caption is not None
        assert chunk.caption.text == bank.descriptions[int(np.argmax(cosines[3:]))]
        for tag in chunk.tags:
            assert tag.probability == pytest.approx(bank.probability(tag.score), abs=1e-4)
    whole_scores = np.mean(scores, axis=0)
    assert [tag.score for tag in found.tags] == pytest.approx(np.sort(whole_scores[:3])[::-1][:2].tolist(), abs=1e-5)
    assert found.caption is not None
    assert found.caption.score == pytest.approx(max(float(s[3:].max()) for s in scores), abs=1e-5)
    best_chunk = int(np.argmax([s[3:].max() for s in scores]))
    assert (found.caption.start, found.caption.end) == (found.chunks[best_chunk].start, found.chunks[best_chunk].end)


def test_a_video_without_frames_and_a_bank_without_descriptions() -> None:
    none = np.zeros((0, 16), np.float32)
    bank = BankVectors(["a"], frames(1).vectors, [], none, 2.0, -1.0)
    assert describe(Embeddings([], [], none), bank, EmbeddingOptions(), 5, 10.0).chunks == []
    found = describe(frames(3), bank, EmbeddingOptions(), 5, 1.5)
    assert found.caption is None
    assert [chunk.caption for chunk in found.chunks] == [None]
