"""What is received and in no finished window yet, on disk: a killed process loses none of it.

One file per camera, rewritten with what is still open whenever a window is finished. Reading it stops at the first
record that is not whole, because a kill may cut the last one.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av

from tasks.core.live.streams import Layout, Sample, layout_of

_RECORD = struct.Struct("<BBqqddI")
"""Stream, flags, presentation time, duration, arrival and capture (Unix times), bytes that follow."""
_KEY, _NO_TIME, _LAYOUT, _ABOUT, _NO_CAPTURE = 1, 2, 4, 8, 16
_NONE = (0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class About:
    """What the next window of the journal is to be."""

    run: str
    sequence: int
    start: float | None
    """Where the window before it in its run ended, Unix time; None for the first of a run."""
    not_before: float | None
    """Where the last window of an earlier run ended."""


class Journal:
    """Writes what comes in. A disk that is full ends the journal until the next window, never the recording.

    Without a path it keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.broken = False
        self._file: BinaryIO | None = None

    def begin(self, about: About, layout: Layout, open_samples: Iterable[Sample] = ()) -> None:
        """A new journal of these samples, in place of the old one."""
        self._close()
        self.broken = False
        if self.path is None:
            return
        fresh = self.path.with_suffix(".new")
        try:
            self._file = fresh.open("wb", buffering=0)
            self._put(0, _ABOUT, _NONE, json.dumps(about.__dict__).encode())
            self.layout(layout)
            for sample in open_samples:
                self.add(sample)
            fresh.replace(self.path)
        except OSError:
            self._give_up()

    def layout(self, layout: Layout) -> None:
        """What follows is of this layout."""
        self._put(0, _LAYOUT, _NONE, layout.header)

    def add(self, sample: Sample) -> None:
        flags = (_KEY if sample.key else 0) | (_NO_TIME if sample.pts is None else 0)
        flags |= _NO_CAPTURE if sample.captured is None else 0
        times = (sample.pts or 0, sample.duration, sample.arrived, sample.captured or 0.0)
        self._put(sample.stream, flags, times, sample.data)

    def end(self) -> None:
        """Nothing is open any more."""
        self._close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _put(self, stream: int, flags: int, times: tuple[int, int, float, float], data: bytes) -> None:
        if self._file is None:
            return
        record = _RECORD.pack(stream, flags, *times, len(data)) + data
        try:
            if self._file.write(record) != len(record):
                self._give_up()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        self.broken = True
        self._close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.with_suffix(".new").unlink()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def read(path: Path) -> Iterator[About | Layout | Sample]:
    """The records of a journal in order, as far as they are whole; nothing where there is no journal."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    at = 0
    while at + _RECORD.size <= len(data):
        stream, flags, pts, duration, arrived, captured, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + size > len(data):
            return
        content = data[at : at + size]
        at += size
        try:
            if flags & _ABOUT:
                yield About(**json.loads(content))
            elif flags & _LAYOUT:
                yield open_layout(content)
            else:
                stated = None if flags & _NO_CAPTURE else captured
                time = None if flags & _NO_TIME else pts
                yield Sample(stream, time, duration, bool(flags & _KEY), content, arrived, stated)
        except (ValueError, TypeError, av.FFmpegError):
            return


def open_layout(header: bytes) -> Layout:
    """The layout that a header describes."""
    with av.open(io.BytesIO(header), format="nut") as nut:
        streams: list[Any] = list(nut.streams)
        return layout_of(streams)
