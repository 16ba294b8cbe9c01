"""Cutting a video into batches of frames that any worker can decode on its own."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

from pydantic import Field

from tasks.core.errors import OptionError
from tasks.core.options import FrameOptions
from tasks.core.schema import MediaInfo, Rational, Record, VideoStream

MAX_BATCH_BYTES = 2**30
"""Decoded images of one batch in memory; batches of large frames are cut shorter than options.batch_size."""

MAX_BATCHES = 100_000

LEAST_TAPERED = 5
"""Batches of a media whose last two are cut in halves; where there are fewer, decoding up to a batch's start counts."""

THUMBNAIL = (160, 288)
"""Largest width and height of a sample's small picture, pixels; a video narrower than 5:9 gets narrower ones."""

INTRA_CODECS = frozenset({"mjpeg", "prores", "dnxhd", "rawvideo", "huffyv", "ffvhuff", "v210", "dvvideo", "png"})
"""Every frame is a key frame."""


class FrameBatchSpec(Record):
    """One batch of samples: a stretch of media time that is decoded by itself."""

    index: int = Field(ge=0)
    start: float
    """Media time of the first sample, seconds."""
    end: float
    """Media time of the next batch's first sample, or of the video's end."""
    first_frame: int
    """Ordinal of the first sample among the media's; in key-frame mode of the source frame at `start`."""
    count: int
    """Samples; in key-frame mode 0, for they are not known before decoding."""
    embed_fps: Rational | None = None
    """Frames to be embedded, per second of media: those at k / embed_fps; None: none."""
    shots: bool = False
    """Every frame of the stretch is compared with the one before."""


def plan_batches(
    info: MediaInfo, options: FrameOptions, *, embed_fps: Fraction | None = None, shots: bool = False
) -> list[FrameBatchSpec]:
    """Cuts the video into batches by time; none where the media has no video.

    Samples are taken at k / fps for k = 0, 1, ... while that is before the video's end; where the video starts late,
    from the last such time at or before its start; frames to be embedded likewise.  In key-frame mode these are chosen
    among the key frames, and shots are not looked for, which would take decoding everything.
    Raises OptionError where that makes too many batches.
    """
    video = info.video
    if video is None:
        return []
    width, height = stored_size(video, options)
    each = 3 * width * height * (1 + (embed_fps or 0) / sample_rate(options))
    most = max(1, min(options.batch_size, math.floor(MAX_BATCH_BYTES / each)))
    end = max(video.start + video.duration_s, video.start)
    if options.mode == "keyframes":
        return _key_frame_batches(video, end, most, embed_fps)
    rate, first = sample_rate(options), first_sample(video, options)
    count = max(1, math.ceil(Fraction(str(end)) * rate) - first)
    _check_batches(count / most)
    starts = _starts(count, most)
    return [
        FrameBatchSpec(
            index=index,
            start=float((first + low) / rate),
            end=float(min((first + high) / rate, max(Fraction(str(end)), (first + low + 1) / rate))),
            first_frame=low,
            count=high - low,
            embed_fps=embed_fps,
            shots=shots,
        )
        for index, (low, high) in enumerate(pairwise([*starts, count]))
    ]


def _starts(count: int, most: int) -> list[int]:
    """First samples of the batches; those of the last two are smaller, so that no worker waits long for the last."""
    starts = list(range(0, count, most))
    if len(starts) < LEAST_TAPERED:
        return starts
    return starts[:-2] + list(range(starts[-2], count, max(1, most // 2)))


def _key_frame_batches(video: VideoStream, end: float, most: int, embed_fps: Fraction | None) -> list[FrameBatchSpec]:
    """Few codecs place key frames closer than a second; those of INTRA_CODECS are all key frames."""
    length = Fraction(most) / (video.fps if video.codec in INTRA_CODECS and video.fps > 1 else 1)
    start = Fraction(str(video.start))
    count = max(1, math.ceil((Fraction(str(end)) - start) / length))
    _check_batches(count)
    edges = [float(start + k * length) for k in range(count)] + [end]
    return [
        FrameBatchSpec(
            index=k,
            start=edges[k],
            end=edges[k + 1],
            first_frame=round(k * length * video.fps),
            count=0,
            embed_fps=embed_fps,
        )
        for k in range(count)
    ]


def _check_batches(count: float) -> None:
    if count > MAX_BATCHES:
        raise OptionError(
            f"frames.fps and frames.batch_size make {math.ceil(count)} batches of this media, more than {MAX_BATCHES}; "
            "lower frames.fps or raise frames.batch_size"
        )


def sample_rate(options: FrameOptions) -> Fraction:
    return Fraction(str(options.fps))


def first_sample(video: VideoStream, options: FrameOptions) -> int:
    return max(0, math.floor(Fraction(str(video.start)) * sample_rate(options)))


def stored_size(video: VideoStream, options: FrameOptions) -> tuple[int, int]:
    """Displayed width and height, scaled down to options.max_side."""
    scale = min(Fraction(1), Fraction(options.max_side, max(video.width, video.height)))
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))
