"""The file that holds a batch of sampled frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.core.errors import DamagedArtifact
from tasks.core.frame_batch import (
    Frames,
    decode_image,
    load_encoded_frames,
    load_frame_times,
    load_frames,
    load_thumbnails,
    save_frames,
)
from tasks.core.options import FrameOptions


def test_stored_batch_comes_back(tmp_path: Path) -> None:
    rows = np.linspace(0, 255, 90, dtype=np.uint8)
    slope = np.tile(rows[:, None], 160)
    images = [np.dstack([slope, np.full((90, 160), 40 * k, np.uint8), slope]) for k in range(3)]
    frames = Frames(images=images, times=[0.04, 1 / 3, 2.0], indexes=[4, 5, 9], width=1920, height=1080)
    path = tmp_path / "frames.parquet"
    save_frames(replace(frames, slots=[None, 0, 1], indexes=[4, None, 9]), path, FrameOptions(quality=95))
    assert (load_frames(path).times, load_frames(path).indexes) == ([0.04, 2.0], [4, 9])
    assert load_frame_times(path) == ([4, 9], [0.04, 2.0])
    assert len(load_encoded_frames(path)) == 2
    assert (load_frames(path, "slot").times, load_frames(path, "slot").slots) == ([1 / 3, 2.0], [0, 1])
    save_frames(frames, path, FrameOptions(quality=95))
    loaded = load_frames(path)
    assert (loaded.times, loaded.indexes) == (frames.times, frames.indexes)
    assert (loaded.width, loaded.height, len(loaded)) == (1920, 1080, 3)
    for before, after in zip(frames.images, loaded.images, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 2
    assert load_frame_times(path) == (frames.indexes, frames.times)
    assert all(data.startswith(b"\xff\xd8") for data in load_encoded_frames(path))


def test_stored_batch_has_small_pictures_of_its_samples(tmp_path: Path) -> None:
    slope = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (360, 1))
    large = np.dstack([slope, np.full((360, 640), 60, np.uint8), slope])
    images = [large, large[:, ::-1].copy(), np.rot90(large).copy(), large[:60, :80].copy()]
    frames = Frames(images, [0.0, 1.0, 2.0, 3.0], [0, None, 1, 2], 640, 360, slots=[None, 0, None, None])
    path = tmp_path / "frames.parquet"
    save_frames(frames, path, FrameOptions())
    found = load_thumbnails(path)
    assert [image.shape[:2] for image in found] == [(90, 160), (284, 160), (60, 80)]
    assert np.abs(found[0].astype(int) - large[2::4, 2::4]).mean() < 3


def test_stored_image_is_decoded_no_further_than_asked(tmp_path: Path) -> None:
    slope = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (360, 1))
    path = tmp_path / "frames.parquet"
    save_frames(Frames([np.dstack([slope] * 3)], [0.0], [0], 640, 360), path, FrameOptions())
    [data] = load_encoded_frames(path)
    widths = {least: decode_image(data, path, least).shape[1] for least in (640, 321, 320, 100, 80, 5)}
    assert widths == {640: 640, 321: 640, 320: 320, 100: 160, 80: 80, 5: 80}
    assert np.abs(decode_image(data, path, 320).astype(int) - decode_image(data, path)[::2, ::2]).mean() < 2
    with pytest.raises(DamagedArtifact, match=r"damaged|not a batch"):
        decode_image(data[:20], path)


def test_empty_and_damaged_batches(tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    save_frames(Frames([], [], [], 64, 48), path, FrameOptions())
    assert len(load_frames(path)) == 0
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedArtifact, match=r"damaged|not a batch"):
        load_frames(path)
