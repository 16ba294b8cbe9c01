"""From container time to media time: recordings in one file, clocks that jump, sound that changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tasks.core.audio import SAMPLE_RATE, extract_audio, load_audio
from tasks.core.clips import cut_clips
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, ClipOptions, FrameOptions, LimitOptions
from tasks.core.probe import probe
from tasks.core.publish.assemble import checked
from tasks.core.schema import Interval, MediaInfo
from tasks.core.timeline import Run, lay_out
from tests import media

Sample = Callable[..., Path]


def look(path: Path) -> MediaInfo:
    return probe(path, LimitOptions(), AudioOptions())


def hear(path: Path, out: Path) -> tuple[MediaInfo, np.ndarray]:
    """What a result says of the media, and its sound."""
    info = look(path)
    heard = extract_audio(path, info, out)
    return checked(info, heard), load_audio(out)


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def spoken(sound: np.ndarray, start: float, end: float) -> bool:
    """Whether someone speaks here: louder than any room."""
    stretch = sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    return len(stretch) > 0 and float(np.sqrt(np.mean(stretch**2))) > 0.01


def frames(path: Path, fps: float) -> list[tuple[int, float]]:
    """(ordinal drawn, time) of each sampled frame, over several batches."""
    info, options, found = look(path), FrameOptions(fps=fps, batch_size=4), []
    for batch in plan_batches(info, options):
        taken = sample_frames(path, info, batch, options, threads=1)
        found += [(media.read_ordinal(i), t) for i, t in zip(taken.images, taken.times, strict=True)]
    return found


def runs(*spans: tuple[int, int, float, float, int]) -> list[Run]:
    """(stream, first packet's place in the file, first time, end, last packet's place)."""
    return [Run(stream, order, order, first, end, last) for stream, order, first, end, last in spans]


def test_one_clock_has_no_takes() -> None:
    line = lay_out(runs((0, 1, 1.5, 9.0, 90), (1, 3, 1.4, 9.1, 91)))
    assert (line.start_offset_s, line.takes) == (1.4, [])


def test_takes_follow_on_each_other_whichever_stream_restarts_first() -> None:
    line = lay_out(
        runs((0, 1, 10.0, 14.0, 52), (1, 2, 10.1, 14.2, 55), (0, 50, 10.0, 13.0, 99), (1, 56, 9.9, 13.0, 98))
    )
    assert [(take.start, take.packets) for take in line.takes] == [
        (0.0, {0: 1, 1: 2}),
        (pytest.approx(4.2), {0: 50, 1: 56}),
    ]
    assert line.takes[1].start + 13.0 - 9.9 == pytest.approx(13.0 - line.takes[1].shift_s)


def test_a_stream_that_pauses_alone_is_no_jump() -> None:
    assert not lay_out(runs((0, 1, 0.0, 2.0, 40), (1, 2, 0.0, 30.0, 99), (0, 60, 17.0, 30.0, 98))).takes


def test_a_stream_that_steps_back_alone_is_badly_stamped() -> None:
    assert not lay_out(runs((0, 1, 0.0, 30.0, 99), (1, 2, 0.0, 9.0, 40), (1, 41, 8.0, 29.0, 98))).takes


CODECS = {
    ".mpg": ("mpeg2video", "mp2"),
    ".webm": ("libvpx", "libopus"),
    ".avi": ("mpeg4", "mp3"),
}


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv", ".webm", ".mp4", ".flv", ".avi", ".ogv"])
def test_appended_recordings(tmp_path: Path, suffix: str) -> None:
    """Pictures and sound of both, each once and in order, whatever the second one's clock says."""
    video, sound = CODECS.get(suffix, ("libx264", "aac"))
    rate = 44_100 if suffix == ".flv" else 48_000
    take = made = media.write(tmp_path / f"take{suffix.replace('ogv', 'mkv')}", video=video, audio=sound, rate=rate)
    if suffix == ".ogv":
        take = tmp_path / "take.ogv"
        media.ffmpeg("-i", made, "-c:v", "libtheora", "-q:v", "10", "-g", "12", "-c:a", "libvorbis", take)
    path = joined(tmp_path / f"two{suffix}", take, take)
    info, heard = hear(path, tmp_path / "audio.flac")
    assert info.video is not None
    assert info.duration_s == pytest.approx(8.0, abs=0.15)
    assert (info.damaged, len(info.takes)) == (False, 2)
    assert float(info.video.fps) == pytest.approx(25, rel=0.01)
    begins = info.takes[1].start
    first = look(take)
    assert first.video is not None
    late = first.video.start
    clicks = media.find_clicks(heard, SAMPLE_RATE)
    expected = [late + time for time in media.CLICKS]
    assert clicks == pytest.approx([*expected, *(begins + time for time in expected)], abs=0.04)
    shown = frames(path, 2)
    assert len(shown) >= 16
    for ordinal, time in shown:
        start = late + (begins if time >= begins + late - 0.03 else 0)
        assert ordinal == pytest.approx((time - start) * 25, abs=1.01), time


@pytest.mark.parametrize(("suffix", "video"), [(".mp4", "libx264"), (".mov", "libx265"), (".flv", "libx264")])
def test_pictures_of_an_appended_recording_are_as_it_says(tmp_path: Path, suffix: str, video: str) -> None:
    """Another size, another profile: what its decoder must know stands in its own header."""
    parts = []
    for name, size, more in (("first", "320x180", []), ("second", "192x108", ["-bf", "0"])):
        source = ["-f", "lavfi", "-i", f"smptebars=s={size}:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2:r=44100"]
        parts.append(tmp_path / f"{name}{suffix}")
        media.ffmpeg(*source, "-c:v", video, "-threads", "1", "-pix_fmt", "yuv420p", *more, "-c:a", "aac", parts[-1])
    path = joined(tmp_path / f"both{suffix}", *parts)
    info, options = look(path), FrameOptions(fps=1)
    assert (info.damaged, len(info.takes)) == (False, 2)
    taken = [sample_frames(path, info, batch, options, 1) for batch in plan_batches(info, options)]
    images = [image for batch in taken for image in batch.images]
    assert len(images) >= 4
    extract_audio(path, info, tmp_path / "track.flac")
    within = [Interval(start=2.5, end=3.5)]
    [clip] = cut_clips(path, info, tmp_path / "track.flac", within, tmp_path, ClipOptions())
    with av.open(str(clip)) as container:
        images += [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(images) >= 4 + 24
    for image in images:
        assert np.abs(image.astype(int) - cv2.resize(images[0], image.shape[1::-1])).mean() < 8


def test_a_clock_that_wraps_between_takes(sample: Sample, tmp_path: Path) -> None:
    """33 bits are over after 2.4 s of the first recording."""
    wrapping = media.transport_stream(tmp_path / "wraps.ts", clock_s=2**33 / 90_000 - 2.4)
    info, heard = hear(wrapping, tmp_path / "audio.flac")
    assert info.duration_s == pytest.approx(4.04, abs=0.05)
    assert not info.damaged
    assert info.video is not None
    assert [t - info.video.start for t in media.find_clicks(heard, SAMPLE_RATE)] == pytest.approx(
        media.CLICKS, abs=0.02
    )
    ordinals = [ordinal for ordinal, _ in frames(wrapping, 2)]
    assert ordinals == sorted(set(ordinals))
    assert len(ordinals) == math.ceil(info.duration_s * 2)
    path = joined(tmp_path / "two.ts", wrapping, sample("transport_stream", ".ts"))
    info = look(path)
    assert (len(info.takes), info.damaged) == (2, False)
    assert info.duration_s == pytest.approx(8.08, abs=0.05)


CASES = {
    "concat_fmt.mp3": 5.3,
    "joined.mp4": 5.14,
    "tv_stereo_switch.ts": 5.06,
    "fmt_adts.aac": 5.3,
    "restart_talk.ts": 5.17,
    "chained.opus": 7.85,
    "concat.flac": 5.25,
    "vbr_noxing_loud_first.mp3": 21.03,
    "vbr_noxing_speech_first.mp3": 23.04,
    "stream_wav.wav": 11.0,
    "jump_forward.ts": 8.08,
    "tfdt3600.mp4": 8.03,
    "bbb_1ch_8kHz_aac_lc.m4a": 3.07,
}
"""Seconds of media. The sentences have 2.72, 2.53 and 2.60 s; frames of AAC and MP3 round up at either end of each."""
SPEECH: dict[str, Sequence[tuple[float, float]]] = {
    "concat_fmt.mp3": [(0.3, 2.5), (3.0, 5.0)],
    "joined.mp4": [(0.3, 2.5), (2.8, 4.9)],
    "tv_stereo_switch.ts": [(0.3, 2.5), (2.8, 4.9)],
    "fmt_adts.aac": [(0.3, 2.5), (3.0, 5.0)],
    "restart_talk.ts": [(0.3, 2.5), (2.9, 5.0)],
    "chained.opus": [(0.3, 2.5), (3.0, 5.0), (5.5, 7.6)],
    "concat.flac": [(0.3, 2.5), (3.0, 5.0)],
    "vbr_noxing_loud_first.mp3": [(18.6, 20.8)],
    "vbr_noxing_speech_first.mp3": [(0.3, 2.0), (8.0, 10.5)],
    "stream_wav.wav": [(0.3, 2.0), (8.0, 10.5)],
}


@pytest.mark.parametrize("name", CASES)
def test_cases_are_intact_and_all_there(shared_cases: Path, tmp_path: Path, name: str) -> None:
    info, sound = hear(shared_cases / name, tmp_path / "audio.flac")
    assert info.duration_s == pytest.approx(CASES[name], abs=0.05)
    assert len(sound) / SAMPLE_RATE == pytest.approx(info.duration_s, abs=0.001)
    assert (info.damaged, info.damage, info.lost_s, info.notices) == (False, [], 0.0, [])
    assert [spoken(sound, *stretch) for stretch in SPEECH.get(name, [])] == [True] * len(SPEECH.get(name, []))


def test_a_cut_ogg_page_gives_what_is_there(shared_cases: Path, tmp_path: Path) -> None:
    info, sound = hear(shared_cases / "cut_at_75_percent.opus", tmp_path / "audio.flac")
    assert info.duration_s == pytest.approx(2.07, abs=0.02)
    assert info.damaged
    assert info.lost_s == pytest.approx(0.47, abs=0.05)
    assert len(sound) / SAMPLE_RATE == pytest.approx(info.duration_s, abs=0.001)
    assert float(np.abs(sound).max()) > 0.003, "it is quiet, and not silent"


def test_frame_rate_and_frames_of_a_recorder_that_started_again(shared_cases: Path) -> None:
    path = shared_cases / "restart_talk.ts"
    info = look(path)
    assert info.video is not None
    assert (float(info.video.fps), info.video.variable_fps) == (25.0, False)
    options = FrameOptions(fps=25, batch_size=64)
    times = [
        time for batch in plan_batches(info, options) for time in sample_frames(path, info, batch, options, 1).times
    ]
    assert len(times) >= 126
    assert all(after > before for before, after in pairwise(times))


def test_a_jump_is_named(shared_cases: Path) -> None:
    before, after = look(shared_cases / "jump_forward.ts").takes
    assert after.start == pytest.approx(4.04, abs=0.01)
    assert after.shift_s - before.shift_s == pytest.approx(1000 - 4.04, abs=0.1)
