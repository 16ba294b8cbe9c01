"""Windows hold every packet once, in order, begin with key frames, and are whole files of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest

from tasks.core.live.cutter import Jump
from tasks.core.live.recording import suffix
from tasks.core.live.streams import Sample
from tests.core.live import samples as take
from tests.media import ffmpeg, write

Sampled = Callable[..., Path]


@pytest.fixture(scope="module")
def long_talk(sample: Sampled) -> Path:
    """12 s with sound, a key frame each second, B frames."""
    return sample("write", seconds=12.0, gop=25, click_times=[k + 0.5 for k in range(12)])


def test_every_frame_is_in_one_window_in_its_order(long_talk: Path, tmp_path: Path) -> None:
    layout, samples = take.read(long_talk)
    cuts = take.windows(layout, samples, window_s=3.0)
    assert [cut.frames for cut in cuts] == [75, 75, 75, 75]
    assert all(cut.aligned for cut in cuts)
    given = [s.data for cut in cuts for s in cut.samples if s.stream == 0]
    assert given == [s.data for s in samples if s.stream == 0]
    paths = take.write_all(cuts, tmp_path / "w")
    shown = [take.frames(path) for path in paths]
    assert [ordinal for window in shown for _, ordinal in window] == list(range(300))
    for window in shown:
        assert [time for time, _ in window] == pytest.approx([n / 25 for n in range(75)], abs=1e-3)


def test_sound_goes_where_its_time_is_and_none_is_lost(long_talk: Path, tmp_path: Path) -> None:
    layout, samples = take.read(long_talk)
    cuts = take.windows(layout, samples, window_s=3.0)
    given = [s.data for cut in cuts for s in cut.samples if s.stream == 1]
    assert given == [s.data for s in samples if s.stream == 1][-len(given) :]
    assert len(given) >= sum(s.stream == 1 for s in samples) - 2, "what AAC primes with lies before the first picture"
    rate = 44_100
    for cut in cuts:
        times = [float((s.pts or 0) * layout.streams[1].time_base) for s in cut.samples if s.stream == 1]
        assert min(times) >= cut.first_s - 1e-9
        assert max(times) < cut.end_s
    paths = take.write_all(cuts, tmp_path / "w")
    heard = [sum(frame.samples for frame in take.sound(path)) / rate for path in paths]
    assert heard == pytest.approx([3.0] * 4, abs=0.06)


@pytest.mark.parametrize("skew_s", [-0.7, 0.7])
def test_sound_that_comes_before_or_after_its_picture_is_put_right(long_talk: Path, skew_s: float) -> None:
    layout, samples = take.read(long_talk)
    plain = take.windows(layout, samples, window_s=3.0)

    def arrival(sample: Sample) -> float:
        """Video in its own order, a frame apart; sound by its time and the skew."""
        if sample.stream == 0:
            return video[id(sample)]
        return float((sample.pts or 0) * layout.streams[1].time_base) + skew_s

    video = {id(s): n / 25 for n, s in enumerate(s for s in samples if s.stream == 0)}
    cuts = take.windows(layout, sorted(samples, key=arrival), window_s=3.0)
    for one, other in zip(cuts, plain, strict=True):
        assert [s.data for s in one.samples if s.stream] == [s.data for s in other.samples if s.stream]


def test_a_window_ends_at_the_first_key_frame_at_or_after_its_length(sample: Sampled) -> None:
    layout, samples = take.read(sample("write", seconds=12.0, gop=50, audio=None))
    assert [cut.frames for cut in take.windows(layout, samples, window_s=3.0)] == [100, 100, 100]
    assert [cut.frames for cut in take.windows(layout, samples, window_s=2.0)] == [50] * 6
    assert [cut.frames for cut in take.windows(layout, samples, window_s=4.5)] == [150, 150]


def test_without_key_frames_the_longest_window_is_the_bound(sample: Sampled) -> None:
    layout, samples = take.read(sample("write", seconds=12.0, gop=1000, audio=None))
    cuts = take.windows(layout, samples, window_s=3.0, longest_s=5.0)
    assert [cut.aligned for cut in cuts] == [True, False, False]
    assert [cut.end_s - cut.first_s for cut in cuts] == pytest.approx([5, 5, 2], abs=0.15)
    assert [s.data for cut in cuts for s in cut.samples] == [s.data for s in samples]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_times_of_decoding_are_made_where_the_wire_has_none(sample: Sampled, tmp_path: Path, codec: str) -> None:
    """Annex B, as RTSP carries it: presentation times only, B frames, parameter sets before each key frame."""
    stream = tmp_path / "s.ts"
    options = (
        ["-bf", "3", "-g", "25", "-x265-params", "log-level=none:open-gop=0"]
        if codec == "libx265"
        else ["-bf", "3", "-g", "25"]
    )
    ffmpeg("-i", sample("write", seconds=6.0, audio=None), "-c:v", codec, "-preset", "ultrafast", *options, stream)
    layout, samples = take.read(stream)
    times = [s.pts or 0 for s in samples]
    assert times != sorted(times), "there are B frames"
    cuts = take.windows(layout, samples, window_s=2.0)
    assert [cut.frames for cut in cuts] == [50, 50, 50]
    paths = take.write_all(cuts, tmp_path / "w")
    assert [path.suffix for path in paths] == [".mp4"] * 3
    for number, path in enumerate(paths):
        with av.open(str(path)) as source:
            packets = [p for p in source.demux(video=0) if p.size]
            stamps = [p.dts for p in packets]
            assert all(a < b for a, b in itertools.pairwise(stamps))  # type: ignore[operator]
            assert all(p.pts >= p.dts for p in packets)  # type: ignore[operator]
            assert source.duration == pytest.approx(2_000_000, abs=45_000)
        shown = take.frames(path)
        assert [ordinal for _, ordinal in shown] == list(range(50 * number, 50 * number + 50))
        assert [time for time, _ in shown] == pytest.approx([n / 25 for n in range(50)], abs=1e-3)


def test_what_comes_before_the_first_key_frame_is_counted_not_kept(long_talk: Path) -> None:
    layout, samples = take.read(long_talk)
    late = [s for s in samples if s.stream == 0][10:]
    cuts = take.windows(layout, late, window_s=3.0)
    assert cuts[0].samples[0].data == late[15].data
    assert sum(cut.frames for cut in cuts) == len(late) - 15


def test_a_first_frame_without_a_time_gets_its_own(long_talk: Path) -> None:
    """libav has none for it over RTSP; the frame that comes second is shown third or later."""
    layout, samples = take.read(long_talk)
    video = [s for s in samples if s.stream == 0]
    base = layout.streams[0].time_base
    stated = [replace(s, captured=1000.0 + float((s.pts or 0) * base)) for s in video]
    for known in (video, stated):
        for count in (len(video), 5):
            first, *others = take.windows(layout, [replace(known[0], pts=None), *known[1:count]], window_s=3.0)
            assert first.frames + sum(cut.frames for cut in others) == count
            assert (first.samples[0].data, first.first) == (video[0].data, video[0].pts)


def test_a_clock_that_jumps_ends_the_window_and_the_run(long_talk: Path) -> None:
    layout, samples = take.read(long_talk)
    video = [s for s in samples if s.stream == 0]
    for shift_s in (5.0, -20.0):
        shift = round(shift_s / layout.streams[0].time_base)
        moved = [replace(s, pts=(s.pts or 0) + (shift if n >= 100 else 0)) for n, s in enumerate(video)]
        given = take.cut(layout, moved, window_s=3.0)
        [jump] = [one for one in given if isinstance(one, Jump)]
        assert jump.seconds == pytest.approx(shift_s, abs=0.3)
        before = [one for one in given[: given.index(jump)] if not isinstance(one, Jump)]
        assert sum(cut.frames for cut in before) == 100
        assert given[given.index(jump) + 1].aligned  # type: ignore[union-attr]


@pytest.mark.parametrize("codec", ["pcm_mulaw", "pcm_alaw"])
def test_telephone_sound_is_kept_as_it_is(sample: Sampled, tmp_path: Path, codec: str) -> None:
    """MP4 cannot hold it, QuickTime can."""
    source = tmp_path / "s.mkv"
    ffmpeg("-i", sample("write", seconds=6.0, gop=25), "-c:v", "copy", "-c:a", codec, "-ar", "8000", source)
    layout, samples = take.read(source)
    cuts = take.windows(layout, samples, window_s=3.0)
    assert {suffix(cut.layout) for cut in cuts} == {"mov"}
    paths = take.write_all(cuts, tmp_path / "w")
    with av.open(str(paths[1])) as one:
        assert one.streams.audio[0].codec_context.name == codec
    assert [sum(frame.samples for frame in take.sound(path)) / 8000 for path in paths] == pytest.approx([3, 3], abs=0.1)
    assert [ordinal for path in paths for _, ordinal in take.frames(path)] == list(range(150))


def test_an_open_group_is_not_cut_where_a_closed_one_comes(sample: Sampled, tmp_path: Path) -> None:
    """Its leading pictures look behind the key frame and could not be decoded in a window of their own."""
    stream = tmp_path / "s.ts"
    groups = "log-level=none:open-gop=1:keyint=25:min-keyint=25"  # the second key frame has such pictures
    ffmpeg("-i", sample("write", seconds=6.0, audio=None), "-c:v", "libx265", "-preset", "ultrafast", "-bf", "3",
           "-x265-params", groups, stream)  # fmt: skip
    layout, samples = take.read(stream)
    cuts = take.windows(layout, samples, window_s=1.0)
    assert [cut.frames for cut in cuts] == [50, 25, 25, 25, 25]
    paths = take.write_all(cuts, tmp_path / "w")
    assert [ordinal for path in paths for _, ordinal in take.frames(path)] == list(range(150))


def test_sound_alone_is_cut_by_time(sample: Sampled, tmp_path: Path) -> None:
    layout, samples = take.read(sample("audio_only", ".mp4", seconds=10.0))
    cuts = take.windows(layout, samples, window_s=3.0)
    assert [cut.end_s - cut.first_s for cut in cuts[:-1]] == pytest.approx([3.0] * 3, abs=0.03)
    assert sum(cut.frames for cut in cuts) == len(samples)
    take.write_all(cuts, tmp_path / "w")


def test_a_window_of_real_media_analyses_like_its_source(tmp_path: Path) -> None:
    """What probe measures of a window is what was cut: frames, length, no damage."""
    from tasks.core.options import AudioOptions, LimitOptions
    from tasks.core.probe import probe

    source = write(tmp_path / "s.mp4", seconds=6.0, gop=25)
    layout, samples = take.read(source)
    for path in take.write_all(take.windows(layout, samples, window_s=3.0), tmp_path / "w"):
        info = probe(path, LimitOptions(), AudioOptions())
        assert info.video is not None
        assert not info.damaged
        assert info.video.fps == 25
        assert info.duration_s == pytest.approx(3.0, abs=0.05)
