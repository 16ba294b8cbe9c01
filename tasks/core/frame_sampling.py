"""Decodes one batch of frames, in a confined child of frames.py: which, at which times, and what lies between.

The child's attachment takes the pixels (a shelf), its stdout says where on it each of them lies.
"""

from __future__ import annotations

import bisect
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import cv2
import numpy as np
from av.video.frame import VideoFrame

from tasks.core import picture
from tasks.core.decoding import answer
from tasks.core.errors import CorruptMedia, OptionError
from tasks.core.frame_decoder import FrameDecoder
from tasks.core.frame_plan import FrameBatchSpec, first_sample, sample_rate, stored_size
from tasks.core.frame_selection import Watch
from tasks.core.options import FrameOptions
from tasks.core.sandbox.starter import ATTACHMENT
from tasks.core.schema import MediaInfo, VideoStream
from tasks.core.shots import WIDTH, ShotMeter, ShotScores
from tasks.core.timeline import Clock

Keep = Callable[[np.ndarray], Any]
"""Takes an image and gives what stands for it."""


@dataclass
class Decoded:
    """T frames in order of time."""

    images: list[Any]
    """What was kept of each."""
    times: list[float]
    indexes: list[int | None]
    slots: list[int | None]
    shots: ShotScores | None


class Shelf:
    """A file of pixels and numbers, one after the other."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self.end = 0

    def put(self, values: np.ndarray) -> int:
        """Where these lie, in bytes from the start."""
        at, rest = self.end, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        self.end += len(rest)
        while len(rest):
            rest = rest[self._file.write(rest) :]
        return at


def main(path: str, info: str, batch: str, options: str, how: str) -> None:
    """The child: everything in JSON. It ends without destructors, in which damaged media may still crash."""
    cv2.setNumThreads(1)
    av.logging.restore_default_callback()  # to stderr: frames that are too large are told from what is said there
    av.logging.set_libav_level(av.logging.ERROR)
    shelf, told = Shelf(ATTACHMENT), json.loads(how)

    def work() -> dict[str, Any]:
        found = decode_batch(
            Path(path),
            MediaInfo.model_validate_json(info),
            FrameBatchSpec.model_validate_json(batch),
            FrameOptions.model_validate_json(options),
            shelf.put,
            threads=told["threads"],
            seconds=told["seconds"],
            table=Path(told["table"]) if told["table"] else None,
        )
        shots = found.shots
        return {
            "images": found.images,
            "times": found.times,
            "indexes": found.indexes,
            "slots": found.slots,
            "shots": shots
            and {
                "count": len(shots.times),
                "times": shelf.put(np.asarray(shots.times, np.float64)),
                "scores": shelf.put(np.asarray(shots.scores, np.float64)),
                "changes": len(shots.gists),
                "gist_times": shelf.put(np.array(list(shots.gists), np.float64)),
                "gists": shelf.put(np.array(list(shots.gists.values()), np.uint8)),
            },
        }

    answer(work)
    os._exit(0)


def decode_batch(
    path: Path,
    info: MediaInfo,
    batch: FrameBatchSpec,
    options: FrameOptions,
    keep: Keep,
    *,
    threads: int,
    seconds: float,
    table: Path | None = None,
) -> Decoded:
    """As sample_frames says, in at most `seconds`; `table` is for the colours of HDR (tone.table_file)."""
    video = info.video
    if video is None:
        raise OptionError(f"{path.name} has no video to sample frames from")
    display = picture.Display(video, stored_size(video, options), table=table)
    decoder = FrameDecoder(
        path,
        info,
        video.index,
        lambda frame, aspect: keep(display.image(frame, aspect)),
        threads=threads,
        reordered=video.decoding_delay > 0,
        max_pixels=video.most_pixels,
        deadline=time.monotonic() + seconds,
    )
    try:
        clock = Clock(decoder.time_base(), info)
        meter = ShotMeter()
        if options.mode == "keyframes":
            images, indexes, slots = _key_frames(decoder, clock, video, batch)
        else:
            watch = _watch(meter, clock, video, batch, table) if batch.shots else None
            images, indexes, slots = _samples(decoder, clock, video, batch, options, watch)
    except av.FFmpegError as error:
        raise CorruptMedia(f"{path.name}: its video cannot be decoded; re-encode it", detail=str(error)) from error
    if not images and batch.index == 0:
        raise CorruptMedia(f"{path.name}: no frame of its {video.codec} video can be decoded; re-encode it")
    stamps = sorted(images)
    return Decoded(
        images=[images[pts] for pts in stamps],
        times=[clock.shown_at(pts) for pts in stamps],
        indexes=[indexes.get(pts) for pts in stamps],
        slots=[slots.get(pts) for pts in stamps] if batch.embed_fps else [],
        shots=meter.found if batch.shots else None,
    )


Found = tuple[dict[int, Any], dict[int, int], dict[int, int]]
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


def _watch(meter: ShotMeter, clock: Clock, video: VideoStream, batch: FrameBatchSpec, table: Path | None) -> Watch:
    """Shows the meter every frame whose time lies in the batch, small."""
    scale = min(1.0, WIDTH / max(video.width, 1))
    small = picture.Display(
        video, (max(1, round(video.width * scale)), max(1, round(video.height * scale))), "FAST_BILINEAR", table
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
