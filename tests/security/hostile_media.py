"""Small files that ask for much memory: later frames that are larger, and indexes that name millions of samples."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests import media


def growing_frames(path: Path, sizes: list[tuple[int, int]], rate: int = 2) -> Path:
    """A QuickTime file of grey JPEG pictures with these widths and heights: only the first is in its header."""
    packed = {size: cv2.imencode(".jpg", np.full(size[::-1], 128, np.uint8))[1].tobytes() for size in set(sizes)}
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p"
        stream.time_base = Fraction(1, rate)
        for number, size in enumerate(sizes):
            packet = av.Packet(packed[size])
            packet.stream, packet.pts, packet.dts, packet.duration = stream, number, number, 1
            packet.time_base, packet.is_keyframe = Fraction(1, rate), True
            container.mux(packet)
    return path


def vast_index(path: Path, samples: int) -> Path:
    """An MP4 file of a few kB whose sample tables, run-length coded, stand for so many samples of one byte."""
    data = media.talk(path).read_bytes()
    at, end = next((a, b) for name, a, b in boxes(data) if name == b"moov")
    tables = {
        b"stts": struct.pack(">IIII", 0, 1, samples, 1),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, samples, 1),
        b"stsz": struct.pack(">III", 0, 1, samples),
        b"stco": struct.pack(">III", 0, 1, 48),
        b"ctts": None,
        b"stss": None,
        b"edts": None,
    }
    head = next((a, b) for name, a, b in boxes(data) if name == b"ftyp")
    moov = box(b"moov", b"".join(_with_tables(data, at + 8, end, tables)))
    path.write_bytes(data[head[0] : head[1]] + box(b"mdat", b"\0" * 4096) + moov)
    return path


def vast_fragment(path: Path, samples: int) -> Path:
    """A fragmented MP4 file, one fragment of which says in 8 bytes that it has so many samples."""
    media.ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=1", "-c:v", "libx264", "-threads", "1",
        "-movflags", "frag_keyframe+empty_moov+default_base_moof+skip_trailer", path,
    )  # fmt: skip
    run = box(b"trun", struct.pack(">II", 0, samples))
    base = box(b"tfhd", struct.pack(">IIII", 0x020018, 1, 512, 1))  # default-base-is-moof, duration, size
    fragment = box(b"moof", box(b"mfhd", struct.pack(">II", 0, 9)) + box(b"traf", base + run))
    with path.open("ab") as file:
        file.write(fragment + box(b"mdat", b"\0" * 4096))
    return path


def many_packets(path: Path, count: int) -> Path:
    """MPEG-TS, which has no index, with at least so many packets of video."""
    media.ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=s=32x32:r=100:d={count / 100}", "-c:v", "mpeg2video", "-threads", "1", path
    )
    return path


def boxes(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the boxes of ISO/IEC 14496-12 that follow each other there."""
    end = len(data) if end is None else end
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, at, at + size
        at += size


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _with_tables(data: bytes, at: int, end: int, tables: dict[bytes, bytes | None]) -> Iterator[bytes]:
    for name, start, stop in boxes(data, at, end):
        if name in (b"trak", b"mdia", b"minf", b"stbl"):
            yield box(name, b"".join(_with_tables(data, start + 8, stop, tables)))
        elif name in tables:
            content = tables[name]
            yield box(name, content) if content is not None else b""
        else:
            yield data[start:stop]
