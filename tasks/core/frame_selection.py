"""Which frames are displayed at given times: chosen from packets before decoding, or from everything decoded."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

Convert = Callable[[VideoFrame, Fraction | None], np.ndarray]
"""Image of a frame, of whose pixels the codec says that they have this shape."""
Shown = tuple[int, np.ndarray]
"""Ordinal of the first limit at which a frame is displayed, and its image."""

MAX_PENDING_BYTES = 64 * 2**20
"""Packets held back while it is not known whether they are needed; beyond this they are decoded."""

MOST_REORDERED = 16
"""Frames that a codec may give back after one that is displayed later."""

SKIP_UNREFERENCED = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"})
"""Codecs whose decoder takes skip_frame from packet to packet; libdav1d keeps the first."""


class StartEarlier(Exception):
    """The read began after the first frame that is wanted."""


class Unreliable(Exception):
    """Packets do not tell which frames they hold; only decoding everything does."""


class Selection:
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
        self._aspects: dict[tuple[int, int], Fraction | None] = {}
        """Shape of a pixel by size of frame: the codec's own changes with the first frame of a new size."""

    @property
    def complete(self) -> bool:
        """Is nothing to be learnt from further packets?"""
        return self.done

    def take(self, packet: av.Packet[Any]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def _check_start(self, first: int) -> None:
        """`first` is the earliest pts that can be shown from here."""
        if first <= self._limits[0]:
            return
        if not self._whole:
            raise StartEarlier
        if self._after is None:
            self._limits = [max(limit, first) for limit in self._limits]

    def _note_aspect(self, frame: VideoFrame) -> None:
        size = frame.width, frame.height
        if size not in self._aspects:
            self._aspects[size] = self._codec.sample_aspect_ratio

    def _image(self, frame: VideoFrame) -> np.ndarray:
        return self._convert(frame, self._aspects[frame.width, frame.height])


class Selective(Selection):
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
        self._opening: set[int] = set()
        """Timestamps of packets that decoding began with, here or after a gap, and whose frame is not out yet."""
        self._earliest: int | None = None
        """Timestamp of the media's first key frame, where limits before it were moved to it."""
        self._started = self._fed = self._gap = False
        self._skips = codec.name in SKIP_UNREFERENCED

    def take(self, packet: av.Packet[Any]) -> None:
        if packet.pts is None:
            raise Unreliable
        if not self._started:
            if not packet.is_keyframe:
                return
            if self._whole and self._after is None and self._limits[0] < packet.pts:
                self._earliest = packet.pts
            self._check_start(packet.pts)
            self._opening.add(packet.pts)
            self._started = True
        if self._earliest is not None and packet.pts < self._earliest and not packet.is_discard:
            raise Unreliable  # only decoding tells whether a leading picture of the first key frame is shown
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
            raise StartEarlier
        while not self.done:
            self._resolve()
        self._receive(drain_decoder(self._codec))
        if self._wanted:
            raise Unreliable

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
            self.found[chosen] = (ordinal, self._image(self._held.pop(chosen)))
            return
        self._wanted[chosen] = ordinal
        count = next((i for i, packet in enumerate(self._pending, 1) if packet.pts == chosen), 0)
        self._feed(count, chosen, limit)

    def _feed(self, count: int, chosen: int | None, limit: int | None = None) -> None:
        if self._gap:
            self._gap = False
            if self._fed:
                self._receive(drain_decoder(self._codec))
                self._codec.flush_buffers()
                self._held.clear()
            if self._pending and self._pending[0].pts is not None:
                self._opening.add(self._pending[0].pts)
        for _ in range(count):
            packet = self._pending.popleft()
            self._pending_bytes -= packet.size
            unwanted = limit is not None and packet.pts is not None and packet.pts <= limit and packet.pts != chosen
            self._codec.skip_frame = "NONREF" if unwanted and self._skips else "DEFAULT"
            self._fed = True
            self._receive(decode_packet(self._codec, packet))

    def _receive(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            pts = frame.pts
            if pts is None or (pts in self._opening and not frame.key_frame):
                raise Unreliable
            self._opening.discard(pts)
            self._note_aspect(frame)
            if pts in self._wanted:
                self.found[pts] = (self._wanted.pop(pts), self._image(frame))
            else:
                self._held[pts] = frame
        if self.done:
            self._held.clear()
            return
        limit = self._limits[self._next]
        current = max((pts for pts in self._held if pts <= limit), default=None)
        if current is not None:
            self._held = {pts: frame for pts, frame in self._held.items() if pts >= current}


class Everything(Selection):
    """Decodes every packet and chooses among the frames that come out: right for any stream that decodes at all.

    `reordered` streams have times of decoding only.
    """

    def __init__(
        self,
        codec: Any,
        limits: list[int],
        after: int | None,
        convert: Convert,
        *,
        whole: bool,
        reordered: bool = False,
    ) -> None:
        super().__init__(codec, limits, after, convert, whole=whole)
        self._codec.skip_frame = "DEFAULT"
        self._shown: tuple[int, VideoFrame] | None = None
        self._order = DisplayOrder() if reordered else None
        self._entered = whole
        """A key frame has come out, or reading began at the start: from here on frames are as a full decode's."""
        self._started = False

    def take(self, packet: av.Packet[Any]) -> None:
        if self._order:
            packet.pts = packet.dts
        self._receive(decode_packet(self._codec, packet))

    def finish(self) -> None:
        if not self.complete:
            self._receive(drain_decoder(self._codec), last=True)
        if not self._started and not self._whole:
            raise StartEarlier
        while not self.done:
            self._resolve()

    def _receive(self, frames: list[VideoFrame], *, last: bool = False) -> None:
        for frame in frames:
            self._note_aspect(frame)
        timed = self._order.sort(frames, last=last) if self._order else ((frame_pts(f), f) for f in frames)
        for pts, frame in timed:
            if pts is None:
                continue
            if not self._entered:
                self._entered = frame.key_frame
                if self._order or not frame.key_frame:
                    continue  # how many of its leading pictures are lost, and so a key frame's own time, is unknown
            if not self._started:
                self._check_start(pts)
                self._started = True
            self._show(pts, frame)

    def _show(self, pts: int, frame: VideoFrame) -> None:
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
            self.found[pts] = (self._next - 1, self._image(frame))


@dataclass(frozen=True)
class Watch:
    """Wants to see every frame with low <= pts < high, and the one before them."""

    low: int
    high: int | None
    """None: to the end."""
    start: Callable[[], None]
    """Called when a pass begins, which may be the second."""
    see: Callable[[int | None, VideoFrame, Fraction | None], None]
    """Takes a frame with its pts, or the one before the first without, and the shape of its pixels as in Convert."""


class Watched(Everything):
    """Shows every frame to a watch as well."""

    def __init__(
        self,
        codec: Any,
        limits: list[int],
        after: int | None,
        convert: Convert,
        *,
        whole: bool,
        watch: Watch,
        reordered: bool = False,
    ) -> None:
        super().__init__(codec, limits, after, convert, whole=whole, reordered=reordered)
        self._watch = watch
        self._before: VideoFrame | None = None
        self._latest: int | None = None
        self._passed = False
        watch.start()

    @property
    def complete(self) -> bool:
        return self.done and self._passed

    def _check_start(self, first: int) -> None:
        super()._check_start(first)
        if first >= self._watch.low and not self._whole:
            raise StartEarlier

    def _show(self, pts: int, frame: VideoFrame) -> None:
        super()._show(pts, frame)
        if self._passed or (self._latest is not None and pts <= self._latest):
            return
        if self._watch.high is not None and pts >= self._watch.high:
            self._passed = True
        elif pts < self._watch.low:
            self._before = frame
        else:
            if self._before is not None:
                self._watch.see(None, self._before, self._aspects[self._before.width, self._before.height])
                self._before = None
            self._watch.see(pts, frame, self._aspects[frame.width, frame.height])
            self._latest = pts


class DisplayOrder:
    """Times for frames that carry the decoding times of their packets: in order, each to the next frame that comes out.

    Frames leave a decoder in the order of display, and the decoding times of all of them are evenly what the times of
    display are. A frame is held until none can come that has an earlier time.
    """

    def __init__(self) -> None:
        self._frames: deque[VideoFrame] = deque()
        self._times: list[int] = []

    def sort(self, frames: list[VideoFrame], *, last: bool) -> Iterator[tuple[int, VideoFrame]]:
        """The frames that can be told, each with its time of display; with `last` all that are left."""
        for frame in frames:
            pts = frame_pts(frame)
            if pts is not None:
                self._frames.append(frame)
                heapq.heappush(self._times, pts)
        while len(self._frames) > (0 if last else MOST_REORDERED):
            yield heapq.heappop(self._times), self._frames.popleft()


def decode_packet(codec: Any, packet: av.Packet[Any]) -> list[VideoFrame]:
    """Frames that the packet completes; none where it is damaged."""
    try:
        return list(codec.decode(packet))
    except (av.FFmpegError, ValueError):
        return []


def drain_decoder(codec: Any) -> list[VideoFrame]:
    """Frames that the decoder still holds."""
    try:
        return list(codec.decode(None))
    except (av.FFmpegError, ValueError):
        return []


def frame_pts(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts
