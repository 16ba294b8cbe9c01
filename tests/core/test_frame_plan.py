"""Batches of a video: what they cover, and how large they are."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tasks.core.errors import OptionError
from tasks.core.frame_plan import FrameBatchSpec, plan_batches
from tasks.core.options import FrameOptions
from tasks.core.schema import MediaInfo, VideoStream


def test_plan_covers_the_video_without_overlap() -> None:
    video = VideoStream(index=0, codec="h264", width=640, height=360, fps=Fraction(25), start=0, duration_s=10.01)
    info = MediaInfo(container="mp4", bytes=1, duration_s=10.01, start_offset_s=0, video=video)
    batches = plan_batches(info, FrameOptions(fps=1, batch_size=4))
    assert [(b.index, b.first_frame, b.count, b.start) for b in batches] == [(0, 0, 4, 0), (1, 4, 4, 4), (2, 8, 3, 8)]
    assert [a.end for a in batches[:-1]] == [b.start for b in batches[1:]]
    assert plan_batches(info.model_copy(update={"video": None}), FrameOptions()) == []
    still = info.model_copy(update={"video": video.model_copy(update={"duration_s": 0.0})})
    assert [b.count for b in plan_batches(still, FrameOptions())] == [1]


def test_last_batches_are_smaller_so_that_workers_end_together() -> None:
    def counts(seconds: float) -> list[int]:
        video = VideoStream(index=0, codec="h264", width=64, height=36, fps=Fraction(25), start=0, duration_s=seconds)
        info = MediaInfo(container="mp4", bytes=1, duration_s=seconds, start_offset_s=0, video=video)
        batches = plan_batches(info, FrameOptions(fps=1, batch_size=8))
        assert [b.first_frame for b in batches] == [sum(b.count for b in batches[:k]) for k in range(len(batches))]
        assert [a.end for a in batches[:-1]] == [b.start for b in batches[1:]]
        assert seconds <= batches[-1].end < seconds + 1
        return [b.count for b in batches]

    assert counts(32.0) == [8, 8, 8, 8]
    assert counts(32.5) == [8, 8, 8, 4, 4, 1]
    assert counts(47.2) == [8, 8, 8, 8, 4, 4, 4, 4]


def test_batches_of_huge_frames_are_cut_to_fit_memory() -> None:
    video = VideoStream(index=0, codec="h264", width=8192, height=8192, fps=Fraction(25), start=0, duration_s=60)
    info = MediaInfo(container="mp4", bytes=1, duration_s=60, start_offset_s=0, video=video)
    batches = plan_batches(info, FrameOptions(max_side=8192, batch_size=64))
    assert max(b.count for b in batches) * 8192 * 8192 * 3 <= 2**30
    assert sum(b.count for b in batches) == 60
    week = info.model_copy(update={"video": video.model_copy(update={"duration_s": 7 * 86400.0})})
    with pytest.raises(OptionError, match=r"raise frames\.batch_size"):
        plan_batches(week, FrameOptions(fps=60, batch_size=1))


def test_batch_spec_is_frozen() -> None:
    spec = FrameBatchSpec(index=0, start=0, end=1, first_frame=0, count=1)
    with pytest.raises(ValueError, match="frozen"):
        spec.count = 2  # type: ignore[misc]
