"""What a decoder must know of a video stream (SPS, PPS and the like), put into its packets.

Containers keep it beside the stream; where a stream goes on in another recording, its key frames carry it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

HEADERS = frozenset({"mpeg4", "mpeg1video", "mpeg2video"})
"""Codecs whose headers stand in the stream as they stand beside it."""


def in_band(packet: Any, context: Any) -> Any:
    """The packet, or where it is a key frame one that begins with the parameter sets of its decoder."""
    sets = parameter_sets(context.codec.canonical_name, context.extradata or b"") if packet.is_keyframe else b""
    if not sets or not packet.size:
        return packet
    told = av.Packet(sets + bytes(packet))
    told.time_base, told.pts, told.dts, told.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    told.is_keyframe = True
    return told


def parameter_sets(codec: str, extradata: bytes) -> bytes:
    """As they stand in a packet; none for codecs that need none, or where what stands beside the stream is damaged.

    ISO/IEC 14496-15: AVCDecoderConfigurationRecord (5.3.3.1) and HEVCDecoderConfigurationRecord (8.3.3.1).
    """
    if codec in HEADERS or (codec in ("h264", "hevc") and extradata[:3] in (b"\0\0\0", b"\0\0\1")):
        return extradata
    read = {"h264": _avc, "hevc": _hevc}.get(codec)
    if read is None:
        return b""
    try:
        return b"".join(read(extradata))
    except IndexError:
        return b""


def _avc(record: bytes) -> Iterator[bytes]:
    width, at = (record[4] & 3) + 1, 5
    for mask in (0x1F, 0xFF):
        count, at = record[at] & mask, at + 1
        for _ in range(count):
            length = _number(record, at)
            yield _unit(record, at + 2, length, width)
            at += 2 + length


def _hevc(record: bytes) -> Iterator[bytes]:
    width, at = (record[21] & 3) + 1, 23
    for _ in range(record[22]):
        count, at = _number(record, at + 1), at + 3
        for _ in range(count):
            length = _number(record, at)
            yield _unit(record, at + 2, length, width)
            at += 2 + length


def _number(record: bytes, at: int) -> int:
    return record[at] << 8 | record[at + 1]


def _unit(record: bytes, at: int, length: int, width: int) -> bytes:
    """A NAL unit behind its length."""
    record[at + length - 1]  # IndexError where it is cut
    return length.to_bytes(width, "big") + record[at : at + length]
