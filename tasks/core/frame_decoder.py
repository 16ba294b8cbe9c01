"""Decodes the frames that are displayed at given times, and as little else as the codec allows.

Times are integers in the stream's time base. Packets are read in decoding order; a packet reaches the decoder only
if a wanted frame needs it: groups of pictures without a wanted frame are dropped whole, the rest of a group after its
last wanted frame too, and frames that nothing refers to are skipped. The pictures are those of a full decode.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream as AvVideoStream

from tasks.core.container import open_media, read_stream
from tasks.core.errors import LimitExceeded, UnsupportedCodec
from tasks.core.frame_selection import (
    Convert,
    Everything,
    Selection,
    Selective,
    Shown,
    StartEarlier,
    Unreliable,
    Watch,
    Watched,
    decode_packet,
    drain_decoder,
    frame_pts,
)
from tasks.core.schema import MediaInfo
from tasks.core.timeline import on_one_clock

SEEK_BACK_S = (0, 2, 8, 32)
"""A seek may land after the frame that is wanted; the next try aims this much earlier, the last is the start."""


class FrameDecoder:
    """One pass over one video stream of the file at `path`; `convert` turns a frame into an image.

    The times of a `reordered` stream are those of decoding.
    """

    def __init__(
        self,
        path: Path,
        info: MediaInfo,
        stream_index: int,
        convert: Convert,
        *,
        reordered: bool = False,
        threads: int,
        max_pixels: int,
        deadline: float,
    ) -> None:
        self._path = path
        self._info = info
        self._stream_index = stream_index
        self._convert = convert
        self._reordered = reordered
        self._threads = threads
        self._max_pixels = max_pixels
        self._deadline = deadline
        self._last: InputContainer | None = None
        self._ready: InputContainer | None = None
        """Opened, and not read from yet."""

    def time_base(self) -> Fraction:
        """Seconds per tick of the stream."""
        self._ready = self._ready or open_media(self._path)
        return self._prepare(self._ready).time_base or Fraction(1, av.time_base)

    def displayed_at(self, limits: Sequence[int], after: int | None, watch: Watch | None = None) -> dict[int, Shown]:
        """By pts: the frames with the largest pts at or before each limit.

        Frames at or before `after` belong to an earlier batch and are left out; None means that the batch opens the
        media, whose first frame then also stands for limits before it.  Damaged stretches are passed over.  A watch has
        every frame decoded and shown to it in the same pass.
        Raises LimitExceeded when the deadline passes.
        """
        everything = partial(Everything, reordered=self._reordered)
        selections: Sequence[Callable[..., Selection]] = (Selective, everything)
        if watch:
            selections = (partial(Watched, watch=watch, reordered=self._reordered),)
        elif self._reordered:
            selections = (everything,)
        for selection in selections:
            found = self._attempt(selection, limits, after)
            if found is not None:
                return found
        return {}

    def key_frames(self, low: int | None, high: int | None) -> dict[int, np.ndarray]:
        """Image by pts of the key frames with low <= pts < high; None is unbounded."""
        if self._reordered:
            return self._key_frames_among_all(low, high)
        found: dict[int, np.ndarray] = {}

        def keep(codec: Any, frames: list[VideoFrame]) -> None:
            for frame in frames:
                pts = frame_pts(frame)
                if pts is not None and (low is None or pts >= low) and (high is None or pts < high):
                    found.setdefault(pts, self._convert(frame, codec.sample_aspect_ratio))

        for container, stream in self._starts(low):
            codec = stream.codec_context
            codec.skip_frame = "NONKEY"
            first = True
            for packet in self._packets(container, stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if not packet.is_keyframe or stamp is None:
                    continue
                if first and low is not None and stamp > low and container is not self._last:
                    break
                first = False
                if high is not None and stamp >= high:
                    keep(codec, drain_decoder(codec))
                    return found
                if low is None or stamp >= low:
                    keep(codec, decode_packet(codec, packet))
            else:
                if first and container is not self._last:
                    continue
                keep(codec, drain_decoder(codec))
                return found
        return found

    def _key_frames_among_all(self, low: int | None, high: int | None) -> dict[int, np.ndarray]:
        """How long before its display a key frame is decoded shows only when all frames are decoded."""
        found: dict[int, np.ndarray] = {}

        def see(pts: int | None, frame: VideoFrame, pixel_aspect: Fraction | None) -> None:
            if pts is not None and frame.key_frame:
                found[pts] = self._convert(frame, pixel_aspect)

        watch = Watch(low=-sys.maxsize if low is None else low, high=high, start=found.clear, see=see)
        self._attempt(partial(Watched, watch=watch, reordered=True), [watch.low], low)
        return found

    def _attempt(
        self, selection: Callable[..., Selection], limits: Sequence[int], after: int | None
    ) -> dict[int, Shown] | None:
        """None where the selection cannot vouch for its result."""
        for container, stream in self._starts(None if after is None else limits[0]):
            run = selection(stream.codec_context, list(limits), after, self._convert, whole=container is self._last)
            try:
                for packet in self._packets(container, stream):
                    run.take(packet)
                    if run.complete:
                        break
                run.finish()
            except StartEarlier:
                continue
            except Unreliable:
                return None
            return run.found
        return None

    def _starts(self, target: int | None) -> Iterator[tuple[InputContainer, AvVideoStream]]:
        """Opened containers, positioned ever earlier before `target` (None: the start); `_last` is at the start."""
        self._last = None
        seeks = target is not None and not self._info.takes  # a take is told by counting packets from the start
        for back_s in SEEK_BACK_S if seeks else ():
            with self._fresh() as container:
                stream = self._prepare(container)
                if stream.time_base is None:
                    break
                aim = (target or 0) - int(back_s / stream.time_base)
                if aim <= (stream.start_time or 0):
                    break
                try:
                    container.seek(aim, stream=stream, backward=True)
                except (av.FFmpegError, ValueError, OverflowError):
                    break
                yield container, stream
        with self._fresh() as container:
            self._last = container
            yield container, self._prepare(container)

    def _fresh(self) -> InputContainer:
        container, self._ready = self._ready, None
        return container or open_media(self._path)

    def _prepare(self, container: InputContainer) -> AvVideoStream:
        stream = container.streams[self._stream_index]
        if not isinstance(stream, AvVideoStream) or stream.codec_context is None:
            raise UnsupportedCodec(f"{self._path.name}: there is no decoder for its video; re-encode it as H.264")
        stream.codec_context.thread_count = max(1, self._threads)
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        stream.thread_type = "AUTO" if self._threads > 1 else "NONE"
        return stream

    def _packets(self, container: InputContainer, stream: AvVideoStream) -> Iterator[av.Packet[Any]]:
        """Packets up to the end of the file, or to where it can no longer be read."""
        packets = on_one_clock(read_stream(self._path, container, stream), self._info, stream.index)
        while True:
            if time.monotonic() > self._deadline:
                raise LimitExceeded(
                    f"{self._path.name}: decoding a batch of frames took too long; lower frames.batch_size"
                )
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            if packet.size:
                yield packet
