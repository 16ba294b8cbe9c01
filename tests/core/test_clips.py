"""Clips hold exactly the frames of their interval, and sound where it was."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tasks.core.audio import extract_audio
from tasks.core.clips import CLIPS_PER_RUN, cut_clips, plan_clips
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, ClipOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import Interval, MediaInfo
from tests import media

Sample = Callable[..., Path]
# the second starts and ends between two frames, the third on one
INTERVALS = [(0.0, 0.3), (0.41, 1.1), (1.28, 2.0), (2.5, 3.4)]


def spans(*pairs: tuple[float, float]) -> list[Interval]:
    return [Interval(start=start, end=end) for start, end in pairs]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], []),
        ([(2, 3)], [(1.75, 3.25)]),
        ([(0.1, 3), (9, 10)], [(0.0, 3.25), (8.75, 10.0)]),
        ([(5, 6), (2, 3)], [(1.75, 3.25), (4.75, 6.25)]),
        ([(2, 3), (3.9, 5)], [(1.75, 5.25)]),
        ([(2, 3), (4.1, 5)], [(1.75, 3.25), (3.85, 5.25)]),
        ([(2, 8), (3, 4)], [(1.75, 8.25)]),
        ([(11, 12)], []),
    ],
)
def test_plan(segments: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    planned = plan_clips(spans(*segments), 10.0, ClipOptions())
    assert [(clip.start, clip.end) for clip in planned] == [pytest.approx(pair) for pair in expected]


def test_padding_never_makes_clips_overlap() -> None:
    planned = plan_clips(spans((1, 2), (2.5, 3), (6, 7)), 10.0, ClipOptions(merge_gap_s=0, pad_s=0.3))
    assert [(clip.start, clip.end) for clip in planned] == [pytest.approx(pair) for pair in [(0.7, 3.3), (5.7, 7.3)]]


def look(path: Path) -> MediaInfo:
    return probe(path, LimitOptions(), AudioOptions())


def cut(
    path: Path, info: MediaInfo, clips: Sequence[Interval], out: Path, options: ClipOptions | None = None
) -> list[Path]:
    """cut_clips with the sound that extract_audio gives."""
    track = out.with_name("track.flac")
    extract_audio(path, info, track)
    return cut_clips(path, info, track, clips, out, options or ClipOptions())


def frames(path: Path) -> list[tuple[int, float]]:
    """(ordinal drawn, time) of each frame."""
    with av.open(str(path)) as clip:
        return [
            (media.read_ordinal(np.asarray(f.to_ndarray(format="gray"), np.uint8)), float(f.time or 0))
            for f in clip.decode(video=0)
        ]


def clicks(path: Path) -> list[float]:
    with av.open(str(path)) as clip:
        stream = clip.streams.audio[0]
        assert (stream.codec_context.name, stream.codec_context.sample_rate, stream.codec_context.channels) == (
            "aac",
            16_000,
            1,
        )
        decoded = list(clip.decode(stream))
    sound = np.concatenate([frame.to_ndarray()[0] for frame in decoded])
    return [float(decoded[0].time or 0) + time for time in media.find_clicks(sound, 16_000)]


def check(path: Path, out: Path, intervals: Sequence[tuple[float, float]], sound_late_s: float = 0.0) -> None:
    """Every clip against the source's frames and clicks; `sound_late_s` is a codec delay that the container hides."""
    info = look(path)
    assert info.video is not None
    made = cut(path, info, spans(*intervals), out)
    assert [clip.name for clip in made] == [f"clip_{index:04d}.mp4" for index in range(len(intervals))]
    for clip, (start, end) in zip(made, intervals, strict=True):
        found = frames(clip)
        first = math.ceil(round((start - info.video.start) * 25, 3))
        last = math.ceil(round((end - info.video.start) * 25, 3)) - 1
        assert [ordinal for ordinal, _ in found] == list(range(max(0, first), last + 1)), clip.name
        shown = [start + time - info.video.start for _, time in found]
        assert shown == pytest.approx([ordinal / 25 for ordinal, _ in found], abs=0.0015)
        heard = [start + time - sound_late_s for time in clicks(clip)]
        expected = [time for time in media.CLICKS if start <= time + sound_late_s < end]
        assert heard == pytest.approx(expected, abs=0.003), clip.name


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_and_sound_are_exact(sample: Sample, tmp_path: Path, suffix: str) -> None:
    check(sample("talk", suffix), tmp_path, INTERVALS)


def test_a_stream_with_its_own_clock(sample: Sample, tmp_path: Path) -> None:
    path = sample("transport_stream", ".ts")
    video = look(path).video
    assert video is not None
    check(path, tmp_path, INTERVALS, sound_late_s=video.start)


def test_one_key_frame_far_before_the_clip(tmp_path: Path) -> None:
    """In MPEG-TS a seek lands anywhere: the first try finds no key frame, the second goes back far enough."""
    options = {"output_ts_offset": "50"}
    path = media.write(tmp_path / "gop.ts", container_format="mpegts", seconds=18, gop=9999, options=options)
    info = look(path)
    assert info.video is not None
    start = 16.0 + info.video.start
    made = cut(path, info, spans((start, start + 1)), tmp_path / "out")
    assert [ordinal for ordinal, _ in frames(made[0])] == list(range(400, 425))


def test_variable_frame_rate_keeps_each_frames_time(sample: Sample, tmp_path: Path) -> None:
    path = sample("variable_rate")
    made = cut(path, look(path), spans((0.8, 2.0)), tmp_path)
    times = [0.04 * i if i < 25 else 1 + 0.12 * (i - 25) for i in range(50)]
    expected = [(i, time - 0.8) for i, time in enumerate(times) if 0.8 <= time < 2.0]
    found = frames(made[0])
    assert [ordinal for ordinal, _ in found] == [ordinal for ordinal, _ in expected]
    assert [time for _, time in found] == pytest.approx([time for _, time in expected], abs=0.001)


def test_rotation_is_applied(sample: Sample, tmp_path: Path) -> None:
    check(sample("rotated"), tmp_path, INTERVALS[:2])


def test_video_that_starts_late(sample: Sample, tmp_path: Path) -> None:
    path = sample("late_video")
    made = cut(path, look(path), spans((0.1, 0.6), (0.5, 1.2)), tmp_path / "out")
    assert clicks(made[0]) == pytest.approx([0.4], abs=0.003)
    assert {ordinal for ordinal, _ in frames(made[0])} == {0}
    found = frames(made[1])
    assert [time for _, time in found] == pytest.approx([index / 25 for index in range(18)], abs=0.001)
    assert [ordinal for ordinal, _ in found][:12] == [0] * 12, "the first frame stands for the time before it"
    assert [ordinal for ordinal, _ in found][14:] == [1, 2, 3, 4]


def assert_whole(clip: Path, start: float, end: float) -> list[tuple[float, np.ndarray]]:
    """A clip with sound and picture from its start to its end. Gives its frames."""
    with av.open(str(clip)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        for stream in (video, audio):
            assert float((stream.duration or 0) * (stream.time_base or 0)) == pytest.approx(end - start, abs=0.12)
        found = [(float(frame.time or 0), frame.to_ndarray(format="bgr24")) for frame in container.decode(video)]
    assert found[0][0] <= 0.12
    assert found[-1][0] >= end - start - 0.12
    return found


@pytest.mark.parametrize("name", ["audio_outlasts.mp4", "still_podcast.mp4", "vfr_hole.mp4"])
def test_a_clip_of_a_picture_that_stands_still(shared_cases: Path, tmp_path: Path, name: str) -> None:
    path = shared_cases / name
    intervals = [(0.5, 4.2), (7.75, 12.0), (15.0, 18.7)]
    info, options = look(path), FrameOptions(fps=25)
    made = cut(path, info, spans(*intervals), tmp_path / "out")
    batches = [sample_frames(path, info, batch, options, 1) for batch in plan_batches(info, options)]
    times = [time for batch in batches for time in batch.times]
    images = [image for batch in batches for image in batch.images]
    for clip, (start, end) in zip(made, intervals, strict=True):
        for time, image in assert_whole(clip, start, end)[::20]:
            displayed = times[max(0, bisect.bisect_right(times, start + time + 0.001) - 1)]
            alike = np.argmin([cv2.absdiff(image, other).mean() for other in images])
            assert times[alike] == pytest.approx(displayed, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_a_clip_long_after_the_last_frame(tmp_path: Path, suffix: str) -> None:
    path = media.write(tmp_path / f"outlasted{suffix}", seconds=2, audio_seconds=160, click_times=(150.5,))
    [clip] = cut(path, look(path), spans((150.0, 152.0)), tmp_path / "out")
    assert_whole(clip, 150.0, 152.0)
    assert {ordinal for ordinal, _ in frames(clip)} == {49}
    assert clicks(clip) == pytest.approx([0.5], abs=0.05)


def test_frames_without_times_of_display_are_where_they_are_displayed(tmp_path: Path) -> None:
    plain, path = media.write(tmp_path / "plain.mkv", video="ffv1"), tmp_path / "b_frames.avi"
    media.ffmpeg("-i", plain, "-c:v", "libx264", "-threads", "1", "-bf", "3", "-b_strategy", "0", "-c:a", "mp3", path)
    made = cut(path, look(path), spans((0, 1), (2.0, 3.0)), tmp_path / "out")
    for clip, first in zip(made, (0, 50), strict=True):
        found = [(ordinal, round(time * 25)) for ordinal, time in frames(clip)]
        assert found == [(first + k, k) for k in range(25)]


def test_more_clips_than_one_run_takes(talk: Path, tmp_path: Path) -> None:
    intervals = [(0.3 * index, 0.3 * index + 0.2) for index in range(CLIPS_PER_RUN + 3)]
    check(talk, tmp_path, intervals)


def test_size_and_format(tmp_path: Path) -> None:
    path = media.write(tmp_path / "odd.mkv", video="ffv1", size=(322, 182), seconds=1.0)
    made = cut(path, look(path), spans((0, 0.5)), tmp_path / "out", ClipOptions(height=101))
    with av.open(str(made[0])) as clip:
        context = clip.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.height) == ("h264", "yuv420p", 100)
        assert context.width == pytest.approx(100 * 322 / 182, abs=2)
        assert context.width % 2 == 0
    data = made[0].read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".wav"])
def test_audio_only_media_give_audio_clips(sample: Sample, tmp_path: Path, suffix: str) -> None:
    path = sample("audio_only", suffix)
    made = cut(path, look(path), spans(*INTERVALS), tmp_path)
    assert [clip.suffix for clip in made] == [".m4a"] * 4
    assert [clicks(clip) for clip in made[1:]] == [
        [pytest.approx(time - start, abs=0.003)] for time, (start, _) in zip(media.CLICKS, INTERVALS[1:], strict=True)
    ]


def test_no_speech_no_clips(sample: Sample, talk: Path, tmp_path: Path) -> None:
    path = sample("video_only")
    assert cut(path, look(path), spans((0, 1)), tmp_path / "out") == []
    assert cut(talk, look(talk), [], tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_a_file_that_broke_since_it_was_probed(talk: Path, tmp_path: Path) -> None:
    info, path, track = look(talk), tmp_path / "broken.mp4", tmp_path / "track.flac"
    extract_audio(talk, info, track)
    path.write_bytes(talk.read_bytes()[:500])
    [made] = cut_clips(path, info, track, spans((0, 1)), tmp_path / "out", ClipOptions())
    assert clicks(made) == pytest.approx([0.5], abs=0.003), "the sound is left"


def test_takes_are_cut_on_one_time_line(tmp_path: Path) -> None:
    """Of two recordings in one file, the second with the clock of the first: its frames and its sound."""
    take = media.write(tmp_path / "take.ts", container_format="mpegts").read_bytes()
    path = tmp_path / "two.ts"
    path.write_bytes(take + take)
    info = look(path)
    assert info.video is not None
    second = info.takes[1].start
    [made] = cut(path, info, spans((second + 1.0, second + 2.0)), tmp_path / "out")
    late = info.video.start
    found = frames(made)
    assert [ordinal for ordinal, _ in found] == list(range(math.ceil((1 - late) * 25), math.ceil((2 - late) * 25)))
    assert [time - late + 1 for _, time in found] == pytest.approx([ordinal / 25 for ordinal, _ in found], abs=0.002)
    assert [time - late + 1 for time in clicks(made)] == pytest.approx([1.5], abs=0.03)


def test_a_take_whose_sound_outlasts_its_picture(tmp_path: Path) -> None:
    """Its last frame is held until the next take begins."""
    one, path = tmp_path / "take.ts", tmp_path / "two.ts"
    take = media.write(one, container_format="mpegts", seconds=2, audio_seconds=4, click_times=(3.0,)).read_bytes()
    path.write_bytes(take + take)
    info = look(path)
    second = info.takes[1].start
    [made] = cut(path, info, spans((second - 1.5, second + 0.5)), tmp_path / "out")
    found = assert_whole(made, 0.0, 2.0)
    ordinals = [media.read_ordinal(np.asarray(image, np.uint8)) for _, image in found]
    held = [time for (time, _), ordinal in zip(found, ordinals, strict=True) if ordinal == 49]
    assert [held[0], held[-1]] == [pytest.approx(0.0, abs=0.12), pytest.approx(1.5, abs=0.2)]
    assert ordinals[-5:] == list(range(ordinals[-1] - 4, ordinals[-1] + 1))
    assert clicks(made) == pytest.approx([3.0 - second + 1.5], abs=0.1)


def test_takes_with_times_of_decoding_only(tmp_path: Path) -> None:
    """B frames in FLV without composition offsets, and a clock that jumps: each frame where it is displayed."""
    plain, whole = media.write(tmp_path / "plain.mkv", video="ffv1"), tmp_path / "whole.mp4"
    media.ffmpeg("-i", plain, "-c:v", "libx264", "-threads", "1", "-bf", "3", "-b_strategy", "0", "-c:a", "aac", whole)
    path = tmp_path / "jumps.flv"
    with av.open(str(path), "w", format="flv") as out, av.open(str(whole)) as take:
        streams = [out.add_stream_from_template(stream) for stream in take.streams]
        for late_s in (0, 24):
            take.seek(0)
            for packet in take.demux():
                if packet.size and packet.dts is not None and packet.time_base:
                    packet.pts = packet.dts = packet.dts + round((late_s + 0.12) / packet.time_base)
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
    info = look(path)
    assert info.video is not None
    assert (len(info.takes), info.video.decoding_delay) == (2, 2)
    start = info.takes[1].start + info.video.start + 1.0
    [made] = cut(path, info, spans((start, start + 1)), tmp_path / "out")
    options = FrameOptions(fps=25)
    shown: dict[int, float] = {}
    for batch in plan_batches(info, options):
        sampled = sample_frames(path, info, batch, options, 1)
        shown |= {media.read_ordinal(i): t for t, i in zip(sampled.times, sampled.images, strict=True) if t > start - 1}
    found = frames(made)
    assert len(found) == 25
    assert [time for _, time in found] == pytest.approx([shown[ordinal] - start for ordinal, _ in found], abs=0.01)
