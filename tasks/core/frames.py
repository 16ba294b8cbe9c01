"""Frames of a video at a steady rate, or its key frames: one batch, decoded in a confined child."""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from tasks.core import decoding, picture
from tasks.core.errors import OptionError
from tasks.core.frame_batch import Frames
from tasks.core.frame_plan import MAX_BATCH_BYTES, FrameBatchSpec, stored_size
from tasks.core.options import FrameOptions
from tasks.core.sandbox.children import Bounds
from tasks.core.schema import MediaInfo
from tasks.core.shots import GIST, ShotScores

DECODER = "tasks.core.frame_sampling"
DECODE_SECONDS_BASE, DECODE_SECONDS_PER_SECOND = 120.0, 30.0
"""Longest that decoding a batch may take: a constant, and as much again for each second of media in it."""
GRACE_S = 30.0
"""A child that does not keep to this by itself is ended so much later."""
MEMORY_BYTES = 4 * 2**30
"""What decoding a batch may take, the pictures that come of it not counted."""

Taken = Callable[[int, int, Any], np.ndarray]
"""Values from the shelf: where they begin in bytes, how many, of which type."""


def sample_frames(path: Path, info: MediaInfo, batch: FrameBatchSpec, options: FrameOptions, threads: int) -> Frames:
    """Decodes one batch: BGR images at most options.max_side pixels long, with the container's own times.

    A sample is the frame that is displayed at its time: the last one stamped at or before it.  A frame displayed
    through several sample times is taken once, at the first of them (their ordinals are then missing).  In key-frame
    mode every key frame from batch.start up to batch.end is taken, and its ordinal is that of the source frame at
    the average rate.  Frames to be embedded have slots, the ordinals of their own times, and are chosen likewise; in
    key-frame mode the first key frame from each such time up to the next.  A damaged stretch gives no frames; the
    result may be empty for any batch but the first.
    Raises CorruptMedia when nothing of the media can be decoded, LimitExceeded when decoding takes too long or too
    much, or a frame is larger than video.most_pixels.
    """
    video = info.video
    if video is None:
        raise OptionError(f"{path.name} has no video to sample frames from")
    seconds = DECODE_SECONDS_BASE + DECODE_SECONDS_PER_SECOND * (batch.end - batch.start)
    table = picture.tone_table(video)
    wall_s = max(0.0, seconds) + GRACE_S
    with _shelf() as shelf:
        found = decoding.call(
            DECODER,
            str(path.absolute()),
            info.model_dump_json(),
            batch.model_dump_json(),
            options.model_dump_json(),
            json.dumps({"threads": threads, "seconds": seconds, "table": table and str(table)}),
            media=path,
            doing="decoding a batch of frames",
            bounds=Bounds(wall_s, wall_s * max(2, threads), MEMORY_BYTES, 2 * MAX_BATCH_BYTES),
            reads=[table] if table else [],
            attachment=shelf.fileno(),
        )
        taken = _reader(shelf)
        width, height = stored_size(video, options)
        size = height * width * 3
        return Frames(
            images=[taken(at, size, np.uint8).reshape(height, width, 3) for at in found["images"]],
            times=found["times"],
            indexes=found["indexes"],
            width=video.width,
            height=video.height,
            slots=found["slots"],
            shots=_shots(found["shots"], taken) if found["shots"] else None,
        )


def _shelf() -> IO[bytes]:
    """A file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("reelflow-frames"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _reader(shelf: IO[bytes]) -> Taken:
    """What the child left, mapped and not copied: it has ended, so that nobody changes it any more."""
    size = os.fstat(shelf.fileno()).st_size
    held = mmap.mmap(shelf.fileno(), size, access=mmap.ACCESS_COPY) if size else b""

    def taken(at: int, count: int, kind: Any) -> np.ndarray:
        return np.frombuffer(held, kind, count, at) if count else np.zeros(0, kind)

    return taken


def _shots(found: dict[str, int], taken: Taken) -> ShotScores:
    shape = (found["changes"], 2, GIST[1], GIST[0], 3)
    gists = taken(found["gists"], int(np.prod(shape)), np.uint8).reshape(shape)
    at = taken(found["gist_times"], found["changes"], np.float64).tolist()
    return ShotScores(
        times=taken(found["times"], found["count"], np.float64).tolist(),
        scores=taken(found["scores"], found["count"], np.float64).tolist(),
        gists=dict(zip(at, gists, strict=True)),
    )
