"""Files that ask for more than a media may use: what each takes stays within the limits that docs and options state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core import probe
from tasks.core.errors import LimitExceeded
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import MEMORY_BYTES, sample_frames
from tasks.core.options import AudioOptions, FrameOptions, LimitOptions
from tasks.core.sandbox.children import Bounds, Finished, run_module
from tests.security import hostile_media

GIB = 2**30
SIZES = (1000, 1000), (2000, 2000)
SAMPLES = 6_000_000


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Finished, Bounds]]:
    """The children that decoding takes, as they end."""
    found: list[tuple[Finished, Bounds]] = []

    def spy(module: str, arguments: Any, bounds: Bounds, **more: Any) -> Finished:
        done = run_module(module, arguments, bounds, **more)
        found.append((done, bounds))
        return done

    monkeypatch.setattr("tasks.core.decoding.run_module", spy)
    return found


@pytest.mark.parametrize("mode", ["uniform", "keyframes"])
def test_a_larger_frame_later_is_over_the_limit(
    tmp_path: Path, children: list[tuple[Finished, Bounds]], mode: Any
) -> None:
    path = hostile_media.growing_frames(tmp_path / "grows.mov", [SIZES[0], *[SIZES[1]] * 4])
    info, options = probe.probe(path, LimitOptions(), AudioOptions()), FrameOptions(mode=mode)
    assert info.video
    assert info.video.most_pixels == LimitOptions().max_pixels
    info = info.model_copy(update={"video": info.video.model_copy(update={"most_pixels": 10**6})})
    [batch] = plan_batches(info, options)
    with pytest.raises(LimitExceeded, match=r"grows\.mov.*limits\.max_pixels"):
        sample_frames(path, info, batch, options, 2)
    assert all(done.peak_bytes < GIB / 4 for done, _ in children)


def test_frames_that_change_size_within_the_limit_are_shown(tmp_path: Path) -> None:
    path = hostile_media.growing_frames(tmp_path / "grows.mov", [(64, 48), *[(640, 480)] * 3])
    info, options = probe.probe(path, LimitOptions(), AudioOptions()), FrameOptions(fps=2)
    [batch] = plan_batches(info, options)
    assert len(sample_frames(path, info, batch, options, 2)) == 4
    assert info.video
    small = info.model_copy(update={"video": info.video.model_copy(update={"most_pixels": 640 * 480 - 1})})
    with pytest.raises(LimitExceeded, match=r"limits\.max_pixels"):
        sample_frames(path, small, batch, options, 2)


def test_pictures_of_a_batch_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many key frames a stretch holds is not known before they are decoded."""
    path = hostile_media.growing_frames(tmp_path / "many.mov", [(640, 480)] * 40, rate=20)
    info, options = probe.probe(path, LimitOptions(), AudioOptions()), FrameOptions(mode="keyframes")
    batch, *_ = plan_batches(info, options)
    monkeypatch.setattr("tasks.core.frames.MAX_BATCH_BYTES", 640 * 480 * 3 * 5)
    with pytest.raises(LimitExceeded, match="file size bound"):
        sample_frames(path, info, batch, options, 2)


@pytest.mark.parametrize("make", [hostile_media.vast_index, hostile_media.vast_fragment])
def test_an_index_is_not_taken_at_its_word(
    tmp_path: Path, children: list[tuple[Finished, Bounds]], make: Callable[[Path, int], Path]
) -> None:
    path = make(tmp_path / "vast.mp4", SAMPLES)
    assert path.stat().st_size < 400_000
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"limits\.max_packets=5000000"):
        probe.probe(path, LimitOptions(), AudioOptions())
    [(done, bounds)] = children
    assert done.peak_bytes <= bounds.memory_bytes == probe.MEMORY_BYTES + probe.PIXEL_BYTES * LimitOptions().max_pixels
    assert time.monotonic() - started < bounds.wall_s


def test_packets_are_counted_where_there_is_no_index(tmp_path: Path, sample: Callable[..., Path]) -> None:
    with pytest.raises(LimitExceeded, match=r"more packets than limits\.max_packets=1000"):
        probe.probe(
            hostile_media.many_packets(tmp_path / "many.ts", 1200), LimitOptions(max_packets=1000), AudioOptions()
        )


def test_what_is_documented_is_what_holds() -> None:
    assert MEMORY_BYTES == Bounds(1, 1).memory_bytes == 4 * GIB
