"""The last page of an Ogg file that was cut within it, made whole from the packets that are there.

Players drop such a page; yet a page may hold a minute of speech, or all there is.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

MAGIC = b"OggS"
HEADER = struct.Struct("<4sBBqIIIB")
"""Magic, version, flags, granule position, serial number, page number, checksum, count of segments (RFC 3533)."""
CHECKSUM_AT = 22
LARGEST_PAGE = 65_307


class Tail(NamedTuple):
    """What stands in for a file's bytes from `start` on."""

    start: int
    page: bytes
    lost: int
    """Ticks of the page's stream that are lost."""


def cut_tail(path: Path) -> Tail | None:
    """The mended end of an Ogg file that ends within a page, or None where nothing is to be mended."""
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            return None
        begin = max(0, file.seek(0, os.SEEK_END) - 2 * LARGEST_PAGE)
        file.seek(begin)
        data = file.read()
    at = data.rfind(MAGIC)
    if at < 0 or len(data) - at < HEADER.size:
        return None
    _, version, flags, granule, serial, number, _, count = HEADER.unpack_from(data, at)
    body = at + HEADER.size + count
    segments = data[at + HEADER.size : body]
    if len(segments) < count or body + sum(segments) <= len(data):
        return None
    kept = _whole_packets(segments, len(data) - body)
    whole, there = _packets(segments), _packets(segments[:kept])
    before = _granule_before(data[:at], serial)
    reached = before + (granule - before) * there // max(1, whole)
    if not there or granule < before:
        return Tail(begin + at, b"", max(0, granule - before))
    head = HEADER.pack(MAGIC, version, flags, reached, serial, number, 0, kept) + segments[:kept]
    page = bytearray(head + data[body : body + sum(segments[:kept])])
    struct.pack_into("<I", page, CHECKSUM_AT, _checksum(page))
    return Tail(begin + at, bytes(page), granule - reached)


def _packets(segments: bytes) -> int:
    """A packet ends with the segment that is not full."""
    return sum(length < 255 for length in segments)


def _whole_packets(segments: bytes, available: int) -> int:
    """Segments of the packets that lie within the first `available` bytes."""
    kept = used = 0
    for number, length in enumerate(segments, 1):
        used += length
        if used > available:
            break
        kept = number if length < 255 else kept
    return kept


def _granule_before(data: bytes, serial: int) -> int:
    """Position of the stream's last page before, 0 at its start."""
    at = data.rfind(MAGIC)
    while at >= 0:
        if at + HEADER.size <= len(data):
            fields = HEADER.unpack_from(data, at)
            if fields[4] == serial and fields[3] >= 0:
                return int(fields[3])
        at = data.rfind(MAGIC, 0, at)
    return 0


def _checksum(page: bytes | bytearray) -> int:
    """CRC-32 of RFC 3533: polynomial 0x04c11db7, not reflected, from 0."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x8000_0000 else 0)
        table.append(value & 0xFFFF_FFFF)
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFF_FFFF) ^ table[crc >> 24 ^ byte]
    return crc
