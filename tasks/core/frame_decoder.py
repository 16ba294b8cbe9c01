"""Decodes the frames that are displayed at given times, and as little else as the codec allows.

Times are integers in the stream's time base. Packets are read in decoding order; a packet reaches the decoder only
if a wanted frame needs it: groups of pictures without a wanted frame are dropped whole, the rest of a group after its
last wanted frame too, and frames that nothing refers to are skipped. The pictures are those of a full decode.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream as AvVideoStream

from tasks.core.errors import LimitExceeded, UnsupportedCodec

Opener = Callable[[], InputContainer]
Convert = Callable[[VideoFrame], np.ndarray]
Shown = tuple[int, np.ndarray]
"""Ordinal of the first limit at which a frame is displayed, and its image."""

MAX_PENDING_BYTES = 64 * 2**20
"""Packets held back while it is not known whether they are needed; beyond this they are decoded."""

SEEK_BACK_S = (0, 2, 8, 32)
"""A seek may land after the frame that is wanted; the next try aims this much earlier, the last is the start."""

SKIP_UNREFERENCED = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"})
"""Codecs whose decoder takes skip_frame from packet to packet; libdav1d keeps the first."""


class FrameDecoder:
    """One pass over one video stream. `open_container` opens the file anew; `convert` turns a frame into an image."""

    def __init__(
        self,
        open_container: Opener,
        stream_index: int,
        convert: Convert,
        *,
        threads: int,
        max_pixels: int,
        deadline: float,
        name: str,
    ) -> None:
        self._open = open_container
        self._stream_index = stream_index
        self._convert = convert
        self._threads = threads
        self._max_pixels = max_pixels
        self._deadline = deadline
        self._name = name
        self._last: InputContainer | None = None
        self._ready: InputContainer | None = None
        """Opened, and not read from yet."""

    def time_base(self) -> Fraction:
        """Seconds per tick of the stream."""
        self._ready = self._ready or self._open()
        return self._prepare(self._ready).time_base or Fraction(1, av.time_base)

    def displayed_at(self, limits: Sequence[int], after: int | None) -> dict[int, Shown]:
        """By pts: the frames with the largest pts at or before each limit.

        Frames at or before `after` belong to an earlier batch and are left out; None means that the batch opens the
        media, whose first frame then also stands for limits before it.  Damaged stretches are passed over.
        Raises LimitExceeded when the deadline passes.
        """
        for selection in (_Selective, _Everything):
            found = self._attempt(selection, limits, after)
            if found is not None:
                return found
        return {}

    def key_frames(self, low: int | None, high: int | None) -> dict[int, np.ndarray]:
        """Image by pts of the key frames with low <= pts < high; None is unbounded."""
        found: dict[int, np.ndarray] = {}

        def keep(frames: list[VideoFrame]) -> None:
            for frame in frames:
                pts = _pts(frame)
                if pts is not None and (low is None or pts >= low) and (high is None or pts < high):
                    found.setdefault(pts, self._convert(frame))

        for container, stream in self._starts(low):
            codec = stream.codec_context
            codec.skip_frame = "NONKEY"
            first = True
            for packet in self._packets(container, stream):
                stamp = _stamp(packet)
                if not packet.is_keyframe or stamp is None:
                    continue
                if first and low is not None and stamp > low and container is not self._last:
                    break
                first = False
                if high is not None and stamp >= high:
                    keep(_drain(codec))
                    return found
                if low is None or stamp >= low:
                    keep(_decode(codec, packet))
            else:
                if first and container is not self._last:
                    continue
                keep(_drain(codec))
                return found
        return found

    def _attempt(
        self, selection: type[_Selection], limits: Sequence[int], after: int | None
    ) -> dict[int, Shown] | None:
        """None where the selection cannot vouch for its result."""
        for container, stream in self._starts(None if after is None else limits[0]):
            run = selection(stream.codec_context, list(limits), after, self._convert, whole=container is self._last)
            try:
                for packet in self._packets(container, stream):
                    run.take(packet)
                    if run.done:
                        break
                run.finish()
            except _StartEarlier:
                continue
            except _Unreliable:
                return None
            return run.found
        return None

    def _starts(self, target: int | None) -> Iterator[tuple[InputContainer, AvVideoStream]]:
        """Opened containers, positioned ever earlier before `target` (None: the start); `_last` is at the start."""
        self._last = None
        for back_s in SEEK_BACK_S if target is not None else ():
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
        return container or self._open()

    def _prepare(self, container: InputContainer) -> AvVideoStream:
        stream = container.streams[self._stream_index]
        if not isinstance(stream, AvVideoStream) or stream.codec_context is None:
            raise UnsupportedCodec(f"{self._name}: there is no decoder for its video; re-encode it as H.264")
        stream.codec_context.thread_count = max(1, self._threads)
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        stream.thread_type = "AUTO" if self._threads > 1 else "NONE"
        return stream

    def _packets(self, container: InputContainer, stream: AvVideoStream) -> Iterator[av.Packet[Any]]:
        """Packets up to the end of the file, or to where it can no longer be read."""
        packets = container.demux(stream)
        while True:
            if time.monotonic() > self._deadline:
                raise LimitExceeded(f"{self._name}: decoding a batch of frames took too long; lower frames.batch_size")
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            if packet.size:
                yield packet


class _StartEarlier(Exception):
    """The read began after the first frame that is wanted."""


class _Unreliable(Exception):
    """Packets do not tell which frames they hold; only decoding everything does."""


class _Selection:
    """Follows packets and keeps the frame displayed at each limit."""

    def __init__(self, codec: Any, limits: list[int], after: int | None, convert: Convert, *, whole: bool) -> None:
        self.found: dict[int, Shown] = {}
        self.done = False
        self._codec = codec
        self._limits = limits
        self._after = after
        self._convert = convert
        self._whole = whole
        """Reading began at the start of the file: there is nothing earlier."""
        self._next = 0
        """Ordinal of the limit that is being resolved."""

    def take(self, packet: av.Packet[Any]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def _check_start(self, first: int) -> None:
        """`first` is the earliest pts that can be shown from here."""
        if first <= self._limits[0]:
            return
        if not self._whole:
            raise _StartEarlier
        if self._after is None:
            self._limits = [max(limit, first) for limit in self._limits]


class _Selective(_Selection):
    """Chooses by the packets' timestamps, before decoding."""

    def __init__(self, codec: Any, limits: list[int], after: int | None, convert: Convert, *, whole: bool) -> None:
        super().__init__(codec, limits, after, convert, whole=whole)
        self._pending: deque[av.Packet[Any]] = deque()
        self._pending_bytes = 0
        self._seen: list[int] = []
        """Timestamps of packets that may still be chosen, fed or pending."""
        self._wanted: dict[int, int] = {}
        """Ordinal of the limit by pts: chosen, and not decoded yet."""
        self._held: dict[int, VideoFrame] = {}
        """Decoded, and perhaps wanted by a later limit."""
        self._started = self._fed = self._gap = False
        self._skips = codec.name in SKIP_UNREFERENCED

    def take(self, packet: av.Packet[Any]) -> None:
        if packet.pts is None:
            raise _Unreliable
        if not self._started:
            if not packet.is_keyframe:
                return
            self._check_start(packet.pts)
            self._started = True
        while not self.done and packet.dts is not None and packet.dts > self._limits[self._next]:
            self._resolve()
        if self.done:
            return
        if packet.is_keyframe and packet.pts <= self._limits[self._next]:
            self._gap = self._gap or bool(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
        self._pending.append(packet)
        self._pending_bytes += packet.size
        if not packet.is_discard:
            self._seen.append(packet.pts)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._feed(len(self._pending), None)

    def finish(self) -> None:
        if not self._started and not self._whole:
            raise _StartEarlier
        while not self.done:
            self._resolve()
        self._receive(_drain(self._codec))
        if self._wanted:
            raise _Unreliable

    def _resolve(self) -> None:
        """Every packet at or before the limit has been seen: choose the last, and feed the decoder up to it."""
        ordinal, limit = self._next, self._limits[self._next]
        self._next += 1
        self.done = self._next == len(self._limits)
        chosen = max((pts for pts in self._seen if pts <= limit), default=None)
        if chosen is None:
            return
        self._seen = [pts for pts in self._seen if pts >= chosen]
        if (self._after is not None and chosen <= self._after) or chosen in self.found or chosen in self._wanted:
            return
        if chosen in self._held:
            self.found[chosen] = (ordinal, self._convert(self._held.pop(chosen)))
            return
        self._wanted[chosen] = ordinal
        count = next((i for i, packet in enumerate(self._pending, 1) if packet.pts == chosen), 0)
        self._feed(count, chosen, limit)

    def _feed(self, count: int, chosen: int | None, limit: int | None = None) -> None:
        if self._gap:
            self._gap = False
            if self._fed:
                self._receive(_drain(self._codec))
                self._codec.flush_buffers()
                self._held.clear()
        for _ in range(count):
            packet = self._pending.popleft()
            self._pending_bytes -= packet.size
            unwanted = limit is not None and packet.pts is not None and packet.pts <= limit and packet.pts != chosen
            self._codec.skip_frame = "NONREF" if unwanted and self._skips else "DEFAULT"
            self._fed = True
            self._receive(_decode(self._codec, packet))

    def _receive(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            pts = frame.pts
            if pts is None:
                raise _Unreliable
            if pts in self._wanted:
                self.found[pts] = (self._wanted.pop(pts), self._convert(frame))
            else:
                self._held[pts] = frame
        if self.done:
            self._held.clear()
            return
        limit = self._limits[self._next]
        current = max((pts for pts in self._held if pts <= limit), default=None)
        if current is not None:
            self._held = {pts: frame for pts, frame in self._held.items() if pts >= current}


class _Everything(_Selection):
    """Decodes every packet and chooses among the frames that come out: right for any stream that decodes at all."""

    def __init__(self, codec: Any, limits: list[int], after: int | None, convert: Convert, *, whole: bool) -> None:
        super().__init__(codec, limits, after, convert, whole=whole)
        self._codec.skip_frame = "DEFAULT"
        self._shown: tuple[int, VideoFrame] | None = None
        self._started = False

    def take(self, packet: av.Packet[Any]) -> None:
        self._receive(_decode(self._codec, packet))

    def finish(self) -> None:
        if not self.done:
            self._receive(_drain(self._codec))
        if not self._started and not self._whole:
            raise _StartEarlier
        while not self.done:
            self._resolve()

    def _receive(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            pts = _pts(frame)
            if pts is None:
                continue
            if not self._started:
                self._check_start(pts)
                self._started = True
            while not self.done and pts > self._limits[self._next]:
                self._resolve()
            if self._shown is None or pts >= self._shown[0]:
                self._shown = (pts, frame)

    def _resolve(self) -> None:
        self._next += 1
        self.done = self._next == len(self._limits)
        if self._shown is None:
            return
        pts, frame = self._shown
        if pts not in self.found and (self._after is None or pts > self._after):
            self.found[pts] = (self._next - 1, self._convert(frame))


def _decode(codec: Any, packet: av.Packet[Any]) -> list[VideoFrame]:
    """Frames that the packet completes; none where it is damaged."""
    try:
        return list(codec.decode(packet))
    except (av.FFmpegError, ValueError):
        return []


def _drain(codec: Any) -> list[VideoFrame]:
    """Frames that the decoder still holds."""
    try:
        return list(codec.decode(None))
    except (av.FFmpegError, ValueError):
        return []


def _pts(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts


def _stamp(packet: av.Packet[Any]) -> int | None:
    return packet.pts if packet.pts is not None else packet.dts
