"""Frames are those that a full decode would give, whatever the batches, at the container's own times."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tasks.core import frame_selection
from tasks.core.container import open_media
from tasks.core.errors import CorruptMedia, ForbiddenFormat, LimitExceeded, SourceNotFound
from tasks.core.frame_plan import plan_batches
from tasks.core.frame_sampling import decode_batch
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.schema import MediaInfo
from tests import media

Sampled = dict[float, tuple[int | None, np.ndarray]]

X264 = ("-c:v", "libx264", "-threads", "1", "-g", "30", "-bf", "3", "-preset", "fast")
OPEN_GOP = (*X264, "-x264-params", "open-gop=1:keyint=30:scenecut=0:b-pyramid=normal")
ENCODINGS = {
    "b_frames.mp4": X264,
    "open_gop.mp4": OPEN_GOP,
    "open_gop.ts": OPEN_GOP,
    "no_index.mkv": (*X264, "-f", "matroska", "-live", "1"),
    "fragmented.mp4": (*X264, "-movflags", "frag_keyframe+empty_moov"),
    "interlaced.ts": (*X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    "flash.flv": X264,
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-bf", "2", "-g", "12"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", "-g", "15"),
    "h264.avi": X264,
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2", "-g", "30"),
    "hevc.mp4": (
        "-c:v",
        "libx265",
        "-x265-params",
        "keyint=30:open-gop=1:log-level=none:pools=1",
        "-preset",
        "ultrafast",
    ),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-g", "40"),
    "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12", "-g", "40", "-svtav1-params", "lp=1"),
    "variable.mkv": ("-vf", r"select='not(between(mod(n\,40)\,5\,33))'", "-fps_mode", "vfr", *X264),
}


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """6 s of a moving test picture (128x72, 25 fps), in one of ENCODINGS."""
    folder = tmp_path_factory.mktemp("encoded")

    def get(name: str) -> Path:
        path = folder / name
        if not path.exists():
            media.ffmpeg(
                "-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=6", "-pix_fmt", "yuv420p", *ENCODINGS[name], path
            )
        return path

    return get


@functools.cache
def describe(path: Path) -> MediaInfo:
    return probe(path, LimitOptions(), AudioOptions())


def sample_all(path: Path, options: FrameOptions, threads: int = 1) -> Sampled:
    """Everything that the batches give: ordinal and image by time."""
    info = describe(path)
    found: Sampled = {}
    for batch in plan_batches(info, options):
        frames = sample_frames(path, info, batch, options, threads)
        assert len(frames) <= options.batch_size
        assert not set(frames.times) & set(found), "two batches gave the same frame"
        found |= {
            time: (index, image) for time, index, image in zip(frames.times, frames.indexes, frames.images, strict=True)
        }
    return found


def decode_everything(path: Path) -> list[tuple[float, np.ndarray, bool]]:
    """(media time, image, is key frame) of every frame, in order of time."""
    info = describe(path)
    offset = Fraction(round(info.start_offset_s * 1e6), 10**6)
    assert info.video is not None
    with av.open(str(path)) as container:
        [stream] = [one for one in container.streams.video if one.index == info.video.index]
        frames = list(container.decode(stream))
    times = [Fraction(frame.pts or 0) * (frame.time_base or 1) for frame in frames]
    if info.video.decoding_delay:  # the times are not those of these frames, but the frames are in order
        with av.open(str(path)) as container:
            packets = list(container.demux(container.streams[info.video.index]))
        times = sorted(Fraction(packet.dts or 0) * packet.time_base for packet in packets if packet.size)
    assert len(times) == len(frames)
    decoded = [
        (max(0.0, float(time - offset)), frame.to_ndarray(format="bgr24"), bool(frame.key_frame))
        for time, frame in zip(times, frames, strict=True)
    ]
    return sorted(decoded, key=lambda frame: frame[0])


def displayed(path: Path, fps: float) -> Sampled:
    """The definition, over a full decode: the last frame at or before k / fps, each frame once."""
    frames = decode_everything(path)
    video = describe(path).video
    assert video is not None
    wanted: Sampled = {}
    first = int(video.start * fps)
    k = first
    while k / fps < video.start + video.duration_s - 1e-9:
        shown = [frame for frame in frames if frame[0] <= k / fps + 0.0005] or frames[: k == first]
        if shown and shown[-1][0] not in wanted:
            wanted[shown[-1][0]] = (k - first, shown[-1][1])
        k += 1
    return wanted


def assert_same(found: Sampled, wanted: Sampled) -> None:
    assert sorted(found) == sorted(wanted)
    for time, (index, image) in wanted.items():
        assert found[time][0] == index, f"ordinal at {time}"
        assert np.array_equal(found[time][1], image), f"picture at {time}"


@pytest.mark.parametrize("name", ENCODINGS)
def test_sampled_frames_are_those_of_a_full_decode_for_any_batching(encoded: Callable[[str], Path], name: str) -> None:
    path = encoded(name)
    for fps, batch_size in ((1.0, 64), (1.0, 2), (7.0, 5)):
        assert_same(sample_all(path, FrameOptions(fps=fps, batch_size=batch_size)), displayed(path, fps))


TRICKY = (
    "b_frames.mp4",
    "h264.avi",
    "mpeg4.avi",
    "open_gop.ts",
    "no_index.mkv",
    "mpeg2.ts",
    "vp9.webm",
    "variable.mkv",
)


@pytest.mark.parametrize(("name", "shots"), [(name, False) for name in ENCODINGS] + [(name, True) for name in TRICKY])
def test_one_pass_gives_samples_frames_to_embed_and_shot_scores(
    encoded: Callable[[str], Path], name: str, shots: bool
) -> None:
    path, embed_fps = encoded(name), Fraction(16, 10)
    info, frames_of_all = describe(path), decode_everything(path)
    video = info.video
    assert video is not None
    first_slot = int(video.start * embed_fps)
    scores: list[list[float]] = []
    for fps, batch_size in ((1.0, 64), (0.25, 1), (7.0, 5)):
        options = FrameOptions(fps=fps, batch_size=batch_size)
        samples: Sampled = {}
        to_embed: Sampled = {}
        seen: list[float] = []
        scores.append([])
        for batch in plan_batches(info, options, embed_fps=embed_fps, shots=shots):
            frames = sample_frames(path, info, batch, options, 1)
            for time, index, slot, image in zip(frames.times, frames.indexes, frames.slots, frames.images, strict=True):
                assert index is not None or slot is not None
                if index is not None:
                    samples[time] = (index, image)
                if slot is not None:
                    assert time not in to_embed
                    to_embed[time] = (slot - first_slot, image)
            if frames.shots:
                seen += frames.shots.times
                scores[-1] += frames.shots.scores
        assert_same(samples, displayed(path, fps))
        assert_same(to_embed, displayed(path, float(embed_fps)))
        assert seen == ([time for time, _, _ in frames_of_all] if shots else [])
        assert scores[-1] == scores[0]
    if shots:
        assert scores[0][0] == 0
        assert min(scores[0][1:]) > 0


def test_key_frames_to_embed_are_the_first_of_each_slot(encoded: Callable[[str], Path]) -> None:
    path, options = encoded("mpeg1.mpg"), FrameOptions(mode="keyframes")
    info = describe(path)
    [batch] = plan_batches(info, options, embed_fps=Fraction(1), shots=True)
    frames = sample_frames(path, info, batch, options, 1)
    chosen = {slot: time for slot, time in zip(frames.slots, frames.times, strict=True) if slot is not None}
    assert sorted(chosen) == sorted({int(time) for time in frames.times})
    assert all(time == min(t for t in frames.times if int(t) == slot) for slot, time in chosen.items())
    assert frames.shots is None


def assert_same_with_and_without_shots(path: Path) -> list[float]:
    """Every picture, sampled as often as there are frames: those of a full decode. Gives the times."""
    info, rate = describe(path), 25.0
    wanted = displayed(path, rate)
    for batch_size, shots in ((64, False), (64, True), (20, False), (20, True)):
        options = FrameOptions(fps=rate, batch_size=batch_size)
        found: Sampled = {}
        for batch in plan_batches(info, options, shots=shots):
            frames = sample_frames(path, info, batch, options, 1)
            found |= {t: (i, image) for t, i, image in zip(frames.times, frames.indexes, frames.images, strict=True)}
        assert_same(found, wanted)
    return sorted(wanted)


@pytest.mark.parametrize(("name", "count"), [("small_xvid_packed.avi", 148), ("small_h264_b.avi", 150)])
def test_frames_without_times_of_display_come_in_the_order_of_a_full_decode(
    shared_cases: Path, name: str, count: int
) -> None:
    """Of the packed one's 150 chunks the second and third are empty: its first picture is shown through them."""
    times = assert_same_with_and_without_shots(shared_cases / name)
    assert len(times) == count
    assert times[-20:] == pytest.approx([k / 25 for k in range(130, 150)])


def test_an_avi_shows_each_frame_at_its_ordinal(tmp_path: Path) -> None:
    path = media.write(tmp_path / "numbered.avi", video="mpeg4", audio=None, seconds=4, gop=20)
    again = tmp_path / "b_frames.avi"
    media.ffmpeg("-i", path, "-c:v", "libx264", "-threads", "1", "-g", "25", "-bf", "3", "-b_strategy", "0", again)
    video = describe(again).video
    assert video is not None
    assert video.decoding_delay > 0
    found = sample_all(again, FrameOptions(fps=25, batch_size=30))
    assert [(round(time * 25), media.read_ordinal(image)) for time, (_, image) in found.items()] == [
        (k, k) for k in range(100)
    ]


def test_leading_pictures_of_the_first_key_frame_count(encoded: Callable[[str], Path], tmp_path: Path) -> None:
    """A recording that begins in the middle of a broadcast: B frames of its first key frame come before it."""
    path = tmp_path / "joined_late.mkv"
    with av.open(str(encoded("open_gop.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
        second = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
        assert min(packet.pts or 0 for packet in packets[second:]) < (packets[second].pts or 0)
        for packet in packets[second:]:
            packet.stream = stream
            target.mux(packet)
    assert_same_with_and_without_shots(path)


def test_a_packet_that_only_claims_to_be_a_key_frame(encoded: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "false_keys.mkv"
    with av.open(str(encoded("b_frames.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                packet.stream = stream
                packet.is_keyframe = packet.is_keyframe or number % 7 == 5
                target.mux(packet)
    assert_same_with_and_without_shots(path)


@pytest.mark.parametrize("name", ["open_gop.mp4", "mpeg1.mpg", "vp9.webm"])
def test_threads_change_nothing(encoded: Callable[[str], Path], name: str) -> None:
    assert_same(sample_all(encoded(name), FrameOptions(fps=5), threads=3), displayed(encoded(name), 5))


@pytest.mark.parametrize("name", ["b_frames.mp4", "mpeg2.ts", "mpeg4.avi", "vp9.webm"])
def test_key_frames_are_all_found_whatever_the_batches(encoded: Callable[[str], Path], name: str) -> None:
    wanted = {time: image for time, image, key in decode_everything(encoded(name)) if key}
    for batch_size in (64, 1, 2):
        options = FrameOptions(mode="keyframes", batch_size=batch_size)
        info = describe(encoded(name))
        found: dict[float, np.ndarray] = {}
        for batch in plan_batches(info, options):
            frames = sample_frames(encoded(name), info, batch, options, 1)
            assert frames.indexes == sorted({index for index in frames.indexes if index is not None})
            found |= dict(zip(frames.times, frames.images, strict=True))
        assert sorted(found) == sorted(wanted)
        assert all(np.array_equal(found[time], wanted[time]) for time in wanted)


def test_groups_without_a_sample_are_not_decoded(
    encoded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[object] = []
    decode = frame_selection.decode_packet

    def spy(codec: Any, packet: Any) -> list[av.VideoFrame]:
        fed.append(packet.pts)
        return decode(codec, packet)

    monkeypatch.setattr(frame_selection, "decode_packet", spy)
    path, options = encoded("b_frames.mp4"), FrameOptions(fps=0.3)
    [batch] = plan_batches(describe(path), options)
    found = decode_batch(path, describe(path), batch, options, lambda image: image, threads=1, seconds=60)
    assert len(found.images) == 2
    assert len(fed) < 25, "0 s and 3.33 s need one frame and a third of a group, not 150 frames"


def test_variable_rate_times_are_the_containers(sample: Callable[..., Path]) -> None:
    path = sample("variable_rate", ".mkv")
    info, options = describe(path), FrameOptions(fps=2)
    (batch,) = plan_batches(info, options)
    frames = sample_frames(path, info, batch, options, 1)
    truth = [0.04 * i if i < 25 else 1 + 0.12 * (i - 25) for i in range(50)]
    for k, (time, image) in enumerate(zip(frames.times, frames.images, strict=True)):
        ordinal = media.read_ordinal(image)
        assert ordinal == max(i for i, t in enumerate(truth) if t <= k / 2 + 1e-6)
        assert time == pytest.approx(truth[ordinal], abs=0.0006)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_comes_upright_and_scaled(sample: Callable[..., Path], rotation: int) -> None:
    path = sample("rotated", rotation=rotation)
    info, options = describe(path), FrameOptions(fps=5, max_side=128)
    (batch,) = plan_batches(info, options)
    frames = sample_frames(path, info, batch, options, 1)
    assert (frames.width, frames.height) == (192, 108)
    assert {image.shape for image in frames.images} == {(72, 128, 3)}
    assert [media.read_ordinal(image) for image in frames.images] == [5 * k for k in range(len(frames))]


def test_a_frame_shown_through_several_samples_is_taken_once(tmp_path: Path) -> None:
    path = media.write(tmp_path / "slides.mkv", frame_times=[0, 3.2, 3.6, 8.0, 8.5], audio=None)
    found = sample_all(path, FrameOptions(fps=1))
    assert [(index, round(time, 2)) for time, (index, _) in sorted(found.items())] == [(0, 0.0), (4, 3.6), (8, 8.0)]


def test_late_video_begins_with_its_first_frame(sample: Callable[..., Path]) -> None:
    found = sample_all(sample("late_video", start=1.6), FrameOptions(fps=1, batch_size=1))
    numbers = [(index, round(time, 2), media.read_ordinal(image)) for time, (index, image) in sorted(found.items())]
    assert numbers[:3] == [(0, 1.6, 0), (1, 2.0, 10), (2, 3.0, 35)]


@pytest.mark.parametrize("name", ["fragmented.mp4", "open_gop.ts", "mpeg1.mpg"])
def test_truncated_file_gives_what_came_before_the_damage(
    encoded: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    info, options = describe(encoded(name)), FrameOptions(fps=2, batch_size=4)
    cut = tmp_path / name
    cut.write_bytes(encoded(name).read_bytes()[: int(info.bytes * 0.6)])
    batches = plan_batches(info, options)
    times = [time for batch in batches for time in sample_frames(cut, info, batch, options, 1).times]
    assert times == sorted(set(times))
    assert 1.0 < max(times) < 5.0


def test_media_of_which_nothing_decodes_is_corrupt(encoded: Callable[[str], Path], tmp_path: Path) -> None:
    path, info = encoded("b_frames.mp4"), describe(encoded("b_frames.mp4"))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov", start) - 4
    data[start:end] = b"\x55" * (end - start)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    batch = plan_batches(info, FrameOptions())[0]
    with pytest.raises(CorruptMedia, match=r"bad\.mp4"):
        sample_frames(bad, info, batch, FrameOptions(), 1)


def test_decoding_stops_at_its_deadline(encoded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe(encoded("b_frames.mp4"))
    monkeypatch.setattr("tasks.core.frames.DECODE_SECONDS_BASE", -1000.0)
    with pytest.raises(LimitExceeded, match="too long"):
        sample_frames(encoded("b_frames.mp4"), info, plan_batches(info, FrameOptions())[0], FrameOptions(), 1)


def test_playlists_and_missing_files_are_refused(tmp_path: Path) -> None:
    playlist = tmp_path / "movie.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    with pytest.raises((ForbiddenFormat, CorruptMedia)):
        open_media(playlist)
    with pytest.raises(SourceNotFound):
        open_media(tmp_path / "gone.mp4")


def test_real_video_is_sampled_exactly(shared_media: Path) -> None:
    path = shared_media / "video" / "one-by-one-person-detection.mp4"
    info, options = describe(path), FrameOptions(batch_size=64)
    batches = plan_batches(info, options)
    assert sum(batch.count for batch in batches) == 140
    frames = sample_frames(path, info, batches[1], options, 2)
    assert frames.times == [float(k) for k in range(64, 128)]
    assert frames.indexes == list(range(64, 128))
