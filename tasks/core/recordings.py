"""Recordings that lie one behind the other in a file of which libavformat would read the first only.

Someone appended an FLV, MP4, WAV or AVI file to another, or a radio station changed the channels of an Ogg stream. Each
recording is opened as a file of its own, as is an Ogg file whose last page is mended (ogg_tail.py).
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tasks.core.ogg_tail import HEADER, MAGIC, Tail, cut_tail

MOST_RECORDINGS = 500
"""Of one file; what lies behind is read as part of the last."""
MOST_STEPS = 2_000_000
"""Pages, tags or boxes that are looked at: a day of Ogg, 8 hours of FLV. Hostile files have millions of empty ones."""
IDENTIFICATION = 64
"""Bytes of an Ogg stream's first packet that tell its form."""
OGG_PAGE = re.compile(re.escape(MAGIC))
FLV_HEAD = re.compile(rb"FLV\x01[\0\1\4\5]\0\0\0\x09\0\0\0\0", re.DOTALL)
FLV_HEAD_BYTES = 13
FLV_TAGS = (8, 9, 18)
"""Sound, picture, script."""
LARGEST_MOOV = 16 * 2**20
BLOCK, SEARCHED = 2**12, 2**20
"""Least and most bytes that are read at once where something is looked for."""
LARGEST_SIZE = 0x7FFF_0000
"""Of a RIFF file; programs that stream write more."""


@dataclass(frozen=True)
class Recording:
    """Bytes of a file from `start` to `end`, and a `page` of our own behind them."""

    start: int
    end: int
    page: bytes = b""
    lost: int = 0
    """Ticks that the mended page lacks."""


class RecordingFile(io.RawIOBase):
    """A recording, opened for reading: a file without a name."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self._file = path.open("rb", buffering=0)
        self._recording = recording
        self._held = recording.end - recording.start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self._held + len(self._recording.page)
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: end}[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = self._held - self._at
        if left > 0:
            data = os.pread(self.fileno(), left if size < 0 else min(size, left), self._recording.start + self._at)
        else:
            data = self._recording.page[-left:][: None if size < 0 else size]
        self._at += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def recordings(path: Path) -> list[Recording]:
    """In their order, at least one; the only one of most files is all of it."""
    state = path.stat()
    return _recordings(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _recordings(path: Path, size: int, _: int) -> list[Recording]:
    with path.open("rb") as file:
        head = file.read(12)
        walk = _walk(head)
        starts = [0, *islice(walk(file, size) if walk else (), MOST_RECORDINGS - 1)]
    tail = cut_tail(path)
    found = [Recording(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    return [*found[:-1], _mended(found[-1], tail)] if tail else found


def _mended(last: Recording, tail: Tail) -> Recording:
    return Recording(last.start, tail.start, tail.page, tail.lost) if tail.start > last.start else last


def _walk(head: bytes) -> Callable[[BinaryIO, int], Iterator[int]] | None:
    """What finds the later recordings of a file that begins so."""
    if head[:4] == MAGIC:
        return _ogg
    if head[:4] == b"FLV\x01":
        return _flv
    if head[4:8] == b"ftyp":
        return _mp4
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "):
        return _riff
    return None


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    return os.pread(file.fileno(), count, place)


def _find(file: BinaryIO, size: int, place: int, pattern: re.Pattern[bytes], longest: int) -> int:
    """The next place of a pattern, which is at most `longest` bytes long; `size` where there is none."""
    width = BLOCK  # it may be near, time and again
    while place < size:
        if found := pattern.search(_at(file, place, width + longest - 1)):
            return place + found.start()
        place, width = place + width, min(2 * width, SEARCHED)
    return size


def _ogg(file: BinaryIO, size: int) -> Iterator[int]:
    """Where streams begin anew in a form that libavformat does not follow."""
    place, link, form, in_heads = 0, 0, b"", True
    forms: list[bytes] = []
    for _ in range(MOST_STEPS):
        if place >= size:
            return
        head = _at(file, place, HEADER.size + 255 + IDENTIFICATION)
        if len(head) < HEADER.size or head[:4] != MAGIC:
            place = _find(file, size, place + 1, OGG_PAGE, len(MAGIC))
            continue
        flags, count = head[5], head[HEADER.size - 1]
        body = HEADER.size + count
        if flags & 2:
            if not in_heads:
                link, forms, in_heads = place, [], True
            forms.append(_form(head[body : body + IDENTIFICATION]))
        elif in_heads:
            in_heads, now = False, b"" if len(forms) != 1 else forms[0]
            if link and (not now or now != form):
                yield link
            form = now
        place += body + sum(head[HEADER.size : body])


def _form(identification: bytes) -> bytes:
    """What of a stream's first packet libavformat does not let change; of FLAC, nothing."""
    if identification.startswith(b"OpusHead"):
        return identification[:10]
    if identification.startswith(b"\x01vorbis"):
        return identification[:16]
    return b"FLAC" if identification.startswith(b"\x7fFLAC") else identification


def _flv(file: BinaryIO, size: int) -> Iterator[int]:
    place = FLV_HEAD_BYTES
    for _ in range(MOST_STEPS):
        if place >= size:
            return
        head = _at(file, place, FLV_HEAD_BYTES)
        if FLV_HEAD.match(head):
            yield place
            place += FLV_HEAD_BYTES
        elif head and head[0] & 0x1F in FLV_TAGS:
            place += 11 + int.from_bytes(head[1:4], "big") + 4
        else:
            place = _find(file, size, place + 1, FLV_HEAD, FLV_HEAD_BYTES)


def _mp4(file: BinaryIO, size: int) -> Iterator[int]:
    """A file type with another index behind it; a repeated index of fragments is none."""
    place, begin = 0, None
    index: bytes | None = None
    for _ in range(MOST_STEPS):
        if place >= size:
            return
        head = _at(file, place, 16)
        if len(head) < 8:
            return
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return
        if name == b"ftyp":
            begin = place
        elif name == b"moov":
            found = _at(file, place, min(length, LARGEST_MOOV))
            if index is not None and begin and not (b"mvex" in found and found == index):
                yield begin
            index, begin = found, None
        place += length


def _riff(file: BinaryIO, size: int) -> Iterator[int]:
    """A second RIFF file of the same kind; one of AVI may go on as AVIX."""
    kind, place = _at(file, 8, 4), 0
    for _ in range(MOST_STEPS):
        length = struct.unpack("<I", _at(file, place + 4, 4))[0]
        if not 0 < length < LARGEST_SIZE:
            return
        place += 8 + length + length % 2
        head = _at(file, place, 12)
        if head[:4] != b"RIFF" or head[8:12] not in (kind, b"AVIX"):
            return
        if head[8:12] == kind:
            yield place


def counterpart(streams: Any, stream: Any) -> Any:
    """The stream of another recording that goes on with this one, or None; pictures must be of the same codec."""
    alike = [other for other in streams if other.type == stream.type]
    place = sum(1 for other in stream.container.streams if other.type == stream.type and other.index < stream.index)
    if place >= len(alike) or alike[place].codec_context is None:
        return None
    same = stream.codec_context is not None and alike[place].codec_context.name == stream.codec_context.name
    return alike[place] if same or stream.type == "audio" else None
