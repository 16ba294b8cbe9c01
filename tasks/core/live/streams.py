"""What a window's streams are: codec, picture size, parameter sets, as a few bytes to be kept and opened again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

_START = b"\x00\x00\x01"
START = b"\x00" + _START
"""What parts the parameter sets of extradata."""
_SETS = {"h264": frozenset({7, 8}), "hevc": frozenset({32, 33, 34})}
"""NAL unit types of parameter sets: SPS, PPS; VPS, SPS, PPS."""
_CLEAN = {"h264": frozenset({5}), "hevc": frozenset({16, 17, 18, 19, 20})}
"""NAL unit types of pictures that nothing after them looks behind: IDR; BLA and IDR."""


@dataclass(slots=True)
class Sample:
    """One packet of a stream, as it came: video is one frame."""

    stream: int
    """Index in the layout."""
    pts: int | None
    """In the stream's time base."""
    duration: int
    """0 where nobody says."""
    key: bool
    data: bytes
    arrived: float = 0.0
    """Unix time at which it had been captured at the latest."""
    captured: float | None = None
    """Unix time at which its sender says it was captured."""


@dataclass(frozen=True)
class Stream:
    """One stream of a layout."""

    kind: str
    """video or audio."""
    codec: str
    time_base: Fraction
    extradata: bytes
    width: int = 0
    height: int = 0
    sample_rate: int = 0

    @property
    def annexb(self) -> bool:
        """Do its packets hold start codes, as on the wire, rather than lengths, as in MP4 and FLV?"""
        return not self.extradata.startswith(b"\x01")


@dataclass(frozen=True)
class Layout:
    """The streams of a window: at most one of video, which is the first, and at most one of sound."""

    streams: tuple[Stream, ...]
    header: bytes
    """A NUT file of nothing but these streams' parameters: the template of whatever is muxed."""

    @property
    def video(self) -> Stream | None:
        return next((stream for stream in self.streams if stream.kind == "video"), None)

    @property
    def audio(self) -> Stream | None:
        return next((stream for stream in self.streams if stream.kind == "audio"), None)


def layout_of(templates: list[Any], changes: dict[str, Any] | None = None) -> Layout:
    """The layout of PyAV streams; `changes` (extradata, width, height) replace what the video stream says."""
    buffer = io.BytesIO()
    streams = []
    nut: Any
    with av.open(buffer, "w", format="nut") as nut:
        for template in templates:
            context = template.codec_context
            made = nut.add_stream_from_template(template, opaque=True)
            made.time_base = template.time_base
            facts: dict[str, Any] = {"extradata": bytes(context.extradata or b"")}
            if template.type == "video":
                facts |= {"width": context.width, "height": context.height} | (changes or {})
                for name in ("width", "height"):
                    setattr(made.codec_context, name, facts[name])
                made.codec_context.extradata = facts["extradata"] or None
            else:
                facts["sample_rate"] = context.sample_rate
            codec = context.codec.canonical_name
            streams.append(Stream(template.type, codec, template.time_base, **facts))
        nut.start_encoding()
        for made in nut.streams:  # libav reads no header without a packet behind it
            packet = av.Packet(bytes(16))
            packet.pts = packet.dts = 0
            packet.time_base, packet.stream, packet.is_keyframe = made.time_base, made, True
            nut.mux_one(packet)
    return Layout(tuple(streams), buffer.getvalue())


def parameter_sets(codec: str, data: bytes) -> bytes:
    """The parameter sets within a key frame of H.264 or H.265 (Annex B), as extradata; empty where there are none."""
    wanted = _SETS.get(codec)
    if wanted is None:
        return b""
    return b"".join(START + unit for kind, unit in _units(codec, data, stop=True) if kind in wanted)


def is_clean(stream: Stream, data: bytes) -> bool:
    """Can everything after this key frame be decoded without what is before it? True for codecs that don't tell.

    Pictures of an open group are shown before their key frame and look behind it (H.265 CRA, H.264 recovery points).
    """
    wanted = _CLEAN.get(stream.codec)
    if wanted is None:
        return True
    kinds = [kind for kind, _ in _units(stream.codec, data)] if stream.annexb else _prefixed(stream.codec, data)
    return any(kind in wanted for kind in kinds)


def picture_size(codec: str, extradata: bytes, key_frame: bytes) -> tuple[int, int]:
    """Width and height of a key frame, by decoding it; (0, 0) where it cannot be decoded."""
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.extradata = extradata or None
    decoder.thread_count = 1
    try:
        for frame in [*decoder.decode(av.Packet(key_frame)), *decoder.decode(None)]:
            return frame.width, frame.height
    except (av.FFmpegError, ValueError):
        pass
    return decoder.width, decoder.height


def _units(codec: str, data: bytes, *, stop: bool = False) -> list[tuple[int, bytes]]:
    """(type, content) of each NAL unit of Annex B, with `stop` only those before the first slice."""
    found = []
    at = data.find(_START)
    while at >= 0:
        begin = at + 3
        at = data.find(_START, begin)
        unit = data[begin : at if at >= 0 else len(data)].rstrip(b"\x00") if at >= 0 or stop else data[begin:]
        if not unit:
            continue
        kind = _kind(codec, unit[0])
        found.append((kind, unit))
        if kind < 32 if codec == "hevc" else 1 <= kind <= 5:
            break  # nothing of interest comes behind the first slice
    return found


def _prefixed(codec: str, data: bytes) -> list[int]:
    kinds, at = [], 0
    while at + 5 <= len(data):
        kinds.append(_kind(codec, data[at + 4]))
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return kinds


def _kind(codec: str, first: int) -> int:
    return first >> 1 & 0x3F if codec == "hevc" else first & 0x1F
