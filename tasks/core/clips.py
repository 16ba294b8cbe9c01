"""Clips of the speech in a media: cut at exact frames, H.264 and 16 kHz mono AAC, several clips per ffmpeg run.

Each clip is an input of its own that seeks to the key frame before it, up to 8 in one process. Measured on 300 s of
848x480 with 2 cores, CPU seconds for 10 clips of 5 s / 30 clips of 7 s: this way 9.9 / 40; one decode split and trimmed
20 / 43; forced key frames and the segment muxer 52 / 54, and that cuts sound at packets of 64 ms only.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import decoding, ffmpeg
from tasks.core.audio import SAMPLE_RATE, sample_count
from tasks.core.errors import CorruptMedia
from tasks.core.options import ClipOptions
from tasks.core.picture import DECODER_OPTIONS, display_filters, tone_table
from tasks.core.sandbox.children import Bounds
from tasks.core.schema import Interval, MediaInfo, VideoStream
from tasks.core.straighten import straighten_picture

CLIPS_PER_RUN = 8
FULL_HD = 1920 * 1080
"""Pixels up to which CLIPS_PER_RUN decoders fit into one run's memory; larger frames share it among fewer clips."""
REALTIME_FACTOR = 10.0
"""Seconds of work per second of clip that are allowed at full HD; ten times what one slow core takes."""
INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv"})
"""Containers in which a seek lands on a key frame. In the others it lands on any frame, and decoding starts at the next
key frame: there the seek goes further back."""
PREROLL_S = 1.0
"""Seeks land at most this early in containers that are indexed."""
UNINDEXED_PREROLL_S = (12.0, 120.0)
"""First try and second: longer than the distance of key frames in broadcast and camera streams."""
MOST_OFF_S = 0.12
"""A clip's picture may start so late and end so much before or after its sound: up to three frames at 25 per second."""
HELD_FPS = (25, 60)
"""Least and most pictures per second of a clip whose picture stands still for some time."""


@dataclass(frozen=True)
class Way:
    """How a clip's picture is read."""

    preroll_s: float | None
    """Seconds before the clip at which reading begins; None: at the start of the file."""
    hold: bool = False
    """Frames come evenly, and each is held until the next."""


def plan_clips(segments: Sequence[Interval], duration_s: float, options: ClipOptions) -> list[Interval]:
    """Segments padded by `pad_s`, within the media; those nearer than `merge_gap_s`, or that touch padded, are joined.

    The result is in order and does not overlap. Segments that begin after the media's end are dropped.
    """
    joined: list[list[float]] = []
    for segment in sorted(segments, key=lambda s: s.start):
        if segment.start >= duration_s or segment.end <= segment.start:
            continue
        reach = max(options.merge_gap_s, 2 * options.pad_s)
        if joined and segment.start - joined[-1][1] < reach:
            joined[-1][1] = max(joined[-1][1], segment.end)
        else:
            joined.append([segment.start, segment.end])
    return [
        Interval(start=max(0.0, start - options.pad_s), end=min(duration_s, end + options.pad_s))
        for start, end in joined
    ]


def cut_clips(
    path: Path,
    info: MediaInfo,
    track: Path,
    clips: Sequence[Interval],
    out_dir: Path,
    options: ClipOptions,
    threads: int | None = None,
) -> list[Path]:
    """One file per interval in `out_dir`: clip_0000.mp4, or .m4a where the media has no video.

    A clip holds the frames with start <= time < end at their own times, as displayed, at most `height` pixels high with
    even sides, and the sound of `track`, which extract_audio wrote. Where the video stands still, has ended or has not
    begun yet, it holds the frame that is displayed, or the first, and its pictures come evenly. Where nothing up to its
    end can be decoded, it has sound only. Media without audio hold no speech: they give no clips.
    Raises CorruptMedia, LimitExceeded, ToolFailed.
    """
    if info.audio is None or not clips:
        return []
    out_dir.mkdir(parents=True, exist_ok=True)
    suffix = ".mp4" if info.video else ".m4a"
    outs = [out_dir / f"clip_{index:04d}{suffix}" for index in range(len(clips))]
    pixels = info.video.width * info.video.height if info.video else 1
    per_run = max(1, min(CLIPS_PER_RUN, CLIPS_PER_RUN * FULL_HD // pixels))
    for out in outs:
        out.unlink(missing_ok=True)
    wanted = list(zip(clips, outs, strict=True))
    with _seekable(path, info, out_dir) as (source, seen):
        for way in _ways(seen):
            due = [(clip, out) for clip, out in wanted if way.hold or not _stands_still(seen.video, clip)]
            for at in range(0, len(due), per_run):
                _cut(source, seen, track, due[at : at + per_run], options, threads, way)
            whole = _whole(path, due, with_picture=bool(info.video))
            wanted = [(clip, out) for clip, out in wanted if out not in whole]
    if lost := [clip for clip, out in wanted if not out.exists()]:
        raise CorruptMedia(f"{ffmpeg.media_name(path)}: nothing of its clip at {lost[0].start:.2f} s can be decoded")
    return outs


@contextlib.contextmanager
def _seekable(path: Path, info: MediaInfo, folder: Path) -> Iterator[tuple[Path, MediaInfo]]:
    """The media, or a copy of its pictures on one clock: in a file of several takes no seek knows where it lands."""
    if not info.takes or info.video is None:
        yield path, info
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix="straight-") as beside:
        copy = Path(beside) / path.name  # messages name the media
        try:
            seen = straighten_picture(path, info, copy)
        except CorruptMedia:
            seen = info.model_copy(update={"video": None})
        yield copy, seen


def _ways(info: MediaInfo) -> list[Way]:
    """Tried one after the other, each for the clips that are not whole yet."""
    if not info.video:
        return [Way(PREROLL_S)]
    prerolls = (PREROLL_S,) if info.container in INDEXED else UNINDEXED_PREROLL_S
    return [*(Way(preroll_s) for preroll_s in prerolls), Way(prerolls[-1], hold=True), Way(None, hold=True)]


def _stands_still(video: VideoStream | None, clip: Interval) -> bool:
    """Is it known beforehand that frames do not follow each other through all of the clip?"""
    if video is None:
        return False
    begins, ends = video.start - MOST_OFF_S, video.start + video.duration_s + MOST_OFF_S
    return not (begins <= clip.start and clip.end <= ends) or video.fps < 1 / MOST_OFF_S


def _cut(
    path: Path,
    info: MediaInfo,
    track: Path,
    batch: list[tuple[Interval, Path]],
    options: ClipOptions,
    threads: int | None,
    way: Way,
) -> None:
    """One ffmpeg run. Where the media is at fault its clips are cut one by one, and in the end with sound only."""
    each = max(1, ffmpeg.thread_count(threads) // len(batch))
    pixels = info.video.width * info.video.height if info.video else 1
    reads_s = sum(clip.end - (_seek_s(info, clip, way) or 0.0) for clip, _ in batch)
    try:
        ffmpeg.run(
            *(_output(path, info, track, clip, out, options, each, way) for clip, out in batch),
            media=path,
            timeout_s=ffmpeg.timeout_for(reads_s, REALTIME_FACTOR * max(1.0, pixels / FULL_HD)),
            global_options=["-copyts"],
            reads=[table] if (table := info.video and tone_table(info.video)) else [],
        )
    except CorruptMedia:
        for _, out in batch:
            out.unlink(missing_ok=True)
        if len(batch) > 1:
            for one in batch:
                _cut(path, info, track, [one], options, threads, way)
        elif not info.video:
            raise
        elif way.preroll_s is None:
            _cut(path, info.model_copy(update={"video": None}), track, batch, options, threads, Way(PREROLL_S))


def _seek_s(info: MediaInfo, clip: Interval, way: Way) -> float | None:
    """Media time from which a clip's picture is read; None: from the start, to which a seek may fail or go astray."""
    if way.preroll_s is None:
        return None
    at_s = clip.start
    if info.video and way.hold:
        at_s = min(at_s, info.video.start + info.video.duration_s)
    return at_s - way.preroll_s if at_s > way.preroll_s else None


def _output(
    path: Path,
    info: MediaInfo,
    track: Path,
    clip: Interval,
    out: Path,
    options: ClipOptions,
    threads: int,
    way: Way,
) -> Any:
    """An ffmpeg-python output for one clip: timestamps stay the container's own up to the filters that shift them."""
    samples = sample_count(clip.duration_s)
    first_sample = round(clip.start * SAMPLE_RATE)
    heard = ffmpeg.open_media(track, "flac", threads=1, ss=f"{max(0.0, clip.start - PREROLL_S):.6f}")
    sound = heard["0"].filter("atrim", start_pts=first_sample, end_pts=first_sample + samples)
    sound = sound.filter("asetpts", f"PTS-{first_sample}").filter("apad", whole_len=samples)
    coding: dict[str, Any] = {"acodec": "aac", "ar": 16_000, "ac": 1, "audio_bitrate": "48k", "threads": threads}
    video = info.video
    if not video:
        return ffmpeg.write_to(out, sound, format="ipod", movflags="+faststart", **coding)
    zero_s, end_s = info.start_offset_s + clip.start, info.start_offset_s + clip.end
    seek_s = _seek_s(info, clip, way)
    seek: dict[str, Any] = {}
    if seek_s is not None:
        seek = {"ss": f"{info.start_offset_s + seek_s:.6f}", "seek_timestamp": 1, "noaccurate_seek": None}
    # without sound: it may lie far from the last frame in the file
    coded = ffmpeg.open_media(
        path, info.container, threads=threads, max_pixels=video.most_pixels, an=None, **DECODER_OPTIONS, **seek
    )
    delay_s = video.decoding_delay / video.fps
    last_s = end_s + float(delay_s) + max(0.0, video.start)  # no frame after it is displayed, or is the first
    picture = coded[str(video.index)].filter("trim", end=f"{last_s:.6f}")
    # a finer clock first: some containers count in whole frames, and a clip may begin between two
    picture = picture.filter("settb", "1/90000").filter("setpts", f"round(PTS-({zero_s + float(delay_s):.9f})/TB)")
    if way.hold:
        from_s = (seek_s or 0.0) - clip.start
        first = {"start_time": f"{from_s:.6f}"} if seek_s is None or clip.start <= video.start else {}
        rate = min(max(float(video.fps), HELD_FPS[0]), HELD_FPS[1])
        picture = picture.filter("fps", fps=rate, round="up", **first)
        picture = picture.filter("tpad", stop=-1, stop_mode="clone")
    picture = picture.filter("trim", start=0, end=f"{clip.duration_s:.6f}")
    return ffmpeg.write_to(
        out,
        display_filters(picture, video, options.height),
        sound,
        format="mp4",
        vcodec="libx264",
        preset="veryfast",
        crf=options.crf,
        fps_mode="passthrough",
        enc_time_base="1/90000",
        movflags="+faststart",
        **coding,
    )


def _whole(media: Path, cut: Sequence[tuple[Interval, Path]], *, with_picture: bool) -> set[Path]:
    """Which of these files are there, with pictures from start to end."""
    there = [(clip, out) for clip, out in cut if out.exists()]
    if not with_picture or not there:
        return {out for _, out in there}
    spans = decoding.call(
        "tasks.core.clip_pictures",
        *(str(out.absolute()) for _, out in there),
        media=media,
        doing="looking at its clips",
        bounds=Bounds(ffmpeg.LOWER_BOUND_S, ffmpeg.LOWER_BOUND_S),
        reads=[out for _, out in there],
    )
    return {
        out
        for (clip, out), span in zip(there, spans, strict=True)
        if span and span[0] <= MOST_OFF_S and abs(span[1] - clip.duration_s) <= MOST_OFF_S
    }
