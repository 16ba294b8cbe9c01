"""Frames of a video at a steady rate, or its key frames: one batch decoded."""

from __future__ import annotations

import bisect
import math
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from tasks.core import picture
from tasks.core.errors import CorruptMedia, OptionError
from tasks.core.frame_batch import Frames
from tasks.core.frame_decoder import FrameDecoder
from tasks.core.frame_plan import FrameBatchSpec, first_sample, sample_rate, stored_size
from tasks.core.frame_selection import Watch
from tasks.core.options import FrameOptions
from tasks.core.schema import MediaInfo, VideoStream
from tasks.core.shots import WIDTH, ShotMeter
from tasks.core.timeline import Clock

MIN_PIXELS_ALLOWED = 2**22
"""A stream may change its frame size: up to this many pixels, or four times what probe found."""

DECODE_SECONDS_BASE, DECODE_SECONDS_PER_SECOND = 120.0, 30.0
"""Longest that decoding a batch may take: a constant, and as much again for each second of media in it."""


def sample_frames(path: Path, info: MediaInfo, batch: FrameBatchSpec, options: FrameOptions, threads: int) -> Frames:
    """Decodes one batch: BGR images at most options.max_side pixels long, with the container's own times.

    A sample is the frame that is displayed at its time: the last one stamped at or before it.  A frame displayed
    through several sample times is taken once, at the first of them (their ordinals are then missing).  In key-frame
    mode every key frame from batch.start up to batch.end is taken, and its ordinal is that of the source frame at
    the average rate.  Frames to be embedded have slots, the ordinals of their own times, and are chosen likewise; in
    key-frame mode the first key frame from each such time up to the next.  A damaged stretch gives no frames; the
    result may be empty for any batch but the first.
    Raises CorruptMedia when nothing of the media can be decoded, LimitExceeded when decoding takes too long.
    """
    video = info.video
    if video is None:
        raise OptionError(f"{path.name} has no video to sample frames from")
    seconds = DECODE_SECONDS_BASE + DECODE_SECONDS_PER_SECOND * (batch.end - batch.start)
    decoder = FrameDecoder(
        path,
        info,
        video.index,
        picture.Display(video, stored_size(video, options)).image,
        threads=threads,
        reordered=video.decoding_delay > 0,
        max_pixels=max(MIN_PIXELS_ALLOWED, 4 * math.prod(video.stored_size)),
        deadline=time.monotonic() + seconds,
    )
    try:
        clock = Clock(decoder.time_base(), info)
        meter = ShotMeter()
        if options.mode == "keyframes":
            images, indexes, slots = _key_frames(decoder, clock, video, batch)
        else:
            watch = _watch(meter, clock, video, batch) if batch.shots else None
            images, indexes, slots = _samples(decoder, clock, video, batch, options, watch)
    except av.FFmpegError as error:
        raise CorruptMedia(f"{path.name}: its video cannot be decoded; re-encode it", detail=str(error)) from error
    if not images and batch.index == 0:
        raise CorruptMedia(f"{path.name}: no frame of its {video.codec} video can be decoded; re-encode it")
    stamps = sorted(images)
    return Frames(
        images=[images[pts] for pts in stamps],
        times=[clock.shown_at(pts) for pts in stamps],
        indexes=[indexes.get(pts) for pts in stamps],
        width=video.width,
        height=video.height,
        slots=[slots.get(pts) for pts in stamps] if batch.embed_fps else [],
        shots=meter.found if batch.shots else None,
    )


Found = tuple[dict[int, np.ndarray], dict[int, int], dict[int, int]]
"""By pts: images, ordinals of samples, ordinals of frames to be embedded."""


def _samples(
    decoder: FrameDecoder,
    clock: Clock,
    video: VideoStream,
    batch: FrameBatchSpec,
    options: FrameOptions,
    watch: Watch | None,
) -> Found:
    rate, first = sample_rate(options), first_sample(video, options) + batch.first_frame
    samples = [clock.last_at((first + k) / rate) for k in range(batch.count)]
    after = clock.last_at((first - 1) / rate) if batch.first_frame else None
    wanted, first_slot, after_slot = _slots(clock, video, batch)
    limits = sorted({*samples, *wanted})
    earliest = None if after is None else min(after, after_slot)
    images = {pts: image for pts, (_, image) in decoder.displayed_at(limits, earliest, watch).items()}
    stamps = sorted(images)
    indexes = _shown(stamps, samples, after, batch.first_frame)
    slots = _shown(stamps, wanted, None if after is None else after_slot, first_slot)
    return {pts: image for pts, image in images.items() if pts in indexes or pts in slots}, indexes, slots


def _slots(clock: Clock, video: VideoStream, batch: FrameBatchSpec) -> tuple[list[int], int, int]:
    """Limits of the frames to be embedded in this batch, the first one's ordinal, and the limit before it."""
    rate = batch.embed_fps
    if rate is None:
        return [], 0, sys.maxsize
    first = math.floor(max(Fraction(0), Fraction(str(video.start))) * rate)
    if batch.index:
        first = max(first, math.ceil(Fraction(str(batch.start)) * rate))
    end = min(batch.end, video.start + video.duration_s)
    last = max(math.ceil(Fraction(str(end)) * rate), first + (batch.index == 0))
    return [clock.last_at(k / rate) for k in range(first, last)], first, clock.last_at((first - 1) / rate)


def _shown(stamps: list[int], limits: list[int], after: int | None, first: int) -> dict[int, int]:
    """Ordinal by pts of the frames that are displayed at the limits, each at the first of its limits."""
    found: dict[int, int] = {}
    for ordinal, limit in enumerate(limits, first):
        at = bisect.bisect_right(stamps, limit) - 1
        if at < 0 and (after is not None or not stamps):
            continue
        pts = stamps[max(at, 0)]
        if after is None or pts > after:
            found.setdefault(pts, ordinal)
    return found


def _watch(meter: ShotMeter, clock: Clock, video: VideoStream, batch: FrameBatchSpec) -> Watch:
    """Shows the meter every frame whose time lies in the batch, small."""
    scale = min(1.0, WIDTH / max(video.width, 1))
    small = picture.Display(
        video, (max(1, round(video.width * scale)), max(1, round(video.height * scale))), "FAST_BILINEAR"
    )

    def see(pts: int | None, frame: VideoFrame, pixel_aspect: Fraction | None) -> None:
        meter.see(None if pts is None else clock.shown_at(pts), small.image(frame, pixel_aspect))

    last = batch.end >= video.start + video.duration_s
    return Watch(
        low=clock.last_at(Fraction(str(batch.start))) if batch.index else -sys.maxsize,
        high=None if last else clock.last_at(Fraction(str(batch.end))),
        start=meter.clear,
        see=see,
    )


def _key_frames(decoder: FrameDecoder, clock: Clock, video: VideoStream, batch: FrameBatchSpec) -> Found:
    low = clock.last_at(Fraction(str(batch.start))) if batch.index else None
    last = batch.end >= video.start + video.duration_s
    images = decoder.key_frames(low, None if last else clock.last_at(Fraction(str(batch.end))))
    start = Fraction(str(video.start))
    indexes = {pts: max(0, round((clock.media_time(pts) - start) * video.fps)) for pts in images}
    slots: dict[int, int] = {}
    if batch.embed_fps:
        first: dict[int, int] = {}
        for pts in sorted(images):
            first.setdefault(math.floor(max(Fraction(0), clock.media_time(pts)) * batch.embed_fps), pts)
        slots = {pts: slot for slot, pts in first.items()}
    return images, indexes, slots
