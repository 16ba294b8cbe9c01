"""Encodes video anew where windows are to be of one length, at a lower frame rate or bit rate."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from tasks.core.live.streams import Layout, Sample, layout_of

PRESET = "veryfast"


class Transcoder:
    """H.264 of whatever comes: every Nth frame, a key frame wherever a window is over, none elsewhere.

    The clock stays that of the source. Sound passes as it is.
    """

    def __init__(self, streams: list[Any], window_s: float, bitrate: int, refresh_rate: int) -> None:
        self._streams = streams
        self._base: Fraction = streams[0].time_base
        self._window_s, self._bitrate, self._every = window_s, bitrate, refresh_rate
        self._decoder = streams[0].codec_context
        self._count = 0
        self._next_key: float | None = None
        self._encoder: Any = None
        self._size = (0, 0)

    def feed(self, sample: Sample) -> Iterator[Sample | Layout]:
        """What the sample gives: packets, and a layout before the first one and where the picture's size changes."""
        if sample.stream != 0:
            if self._encoder is not None:
                yield sample
            return
        packet = av.Packet(sample.data)
        packet.pts, packet.time_base = sample.pts, self._base
        with suppress(av.FFmpegError):  # a damaged frame: those after it are shown all the same
            for frame in self._decoder.decode(packet):
                for given in self._take(frame):
                    if isinstance(given, Sample):
                        given.arrived = sample.arrived
                    yield given

    def flush(self) -> Iterator[Sample | Layout]:
        """What decoder and encoder still hold."""
        with suppress(av.FFmpegError):
            for frame in self._decoder.decode(None):
                yield from self._take(frame)
        if self._encoder is not None:
            yield from self._packets(self._encoder.encode(None))

    def _take(self, frame: Any) -> Iterator[Sample | Layout]:
        number, self._count = self._count, self._count + 1
        if number % self._every or frame.pts is None:
            return
        if (frame.width, frame.height) != self._size:
            if self._encoder is not None:
                yield from self._packets(self._encoder.encode(None))
            yield self._open(frame)
        time = float(frame.pts * self._base)
        picture = frame.reformat(format="yuv420p")
        picture.pts, picture.time_base = frame.pts, self._base
        picture.pict_type = av.video.frame.PictureType.NONE
        if self._next_key is None or time >= self._next_key - 1e-3 or time < self._next_key - 2 * self._window_s:
            picture.pict_type = av.video.frame.PictureType.I
            self._next_key = time + self._window_s
        yield from self._packets(self._encoder.encode(picture))

    def _packets(self, packets: list[Any]) -> Iterator[Sample]:
        for packet in packets:
            yield Sample(0, packet.pts, packet.duration or 0, packet.is_keyframe, bytes(packet))

    def _open(self, frame: Any) -> Layout:
        self._size = (frame.width, frame.height)
        out: Any = av.open(io.BytesIO(), "w", format="nut")
        stream = out.add_stream("libx264", rate=self._streams[0].average_rate or 25)
        stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
        stream.pix_fmt, stream.bit_rate = "yuv420p", self._bitrate
        stream.time_base = stream.codec_context.time_base = self._base
        stream.codec_context.gop_size = 1_000_000
        stream.codec_context.options = {
            "preset": PRESET, "bf": "0", "forced-idr": "1", "sc_threshold": "0", "threads": "1", "rc-lookahead": "0"
        }  # fmt: skip
        out.start_encoding()
        stream.time_base = self._base  # the container chose its own
        self._encoder, self._kept = stream.codec_context, out
        self._next_key = None
        return layout_of([stream, *self._streams[1:]])
