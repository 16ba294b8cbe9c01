"""A window's packets become one media file: MP4 where it can hold them as they are, else QuickTime or Matroska.

Every window stands alone: its times begin at 0, it carries its parameter sets, and it is written whole under another
name first. Decoding times are made from presentation times, because RTSP has none and MP4 needs them.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from tasks.core.errors import UnsupportedCodec
from tasks.core.live.streams import Layout, Sample

BROWSERS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus"})
"""Codecs that readers of MP4 know. libav would write others into it as well, for itself."""
CONTAINERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska"}
"""By ending, in the order in which they are tried: QuickTime is MP4 that also holds G.711, PCM and Motion JPEG."""


@dataclass(frozen=True)
class Cut:
    """The packets of one window, in the order in which they came, and where it lies on the stream's clock."""

    layout: Layout
    samples: list[Sample]
    first: int
    """Presentation time of its first frame, in the time base of stream 0."""
    end: int
    """Where the next window begins, or where the last frame ends."""
    aligned: bool
    """It begins with a key frame."""

    @property
    def first_s(self) -> float:
        return float(self.first * self.layout.streams[0].time_base)

    @property
    def end_s(self) -> float:
        return float(self.end * self.layout.streams[0].time_base)

    @property
    def frames(self) -> int:
        """Packets of stream 0: frames of video, blocks of sound where there is no video."""
        return sum(sample.stream == 0 for sample in self.samples)


def suffix(layout: Layout) -> str:
    """The ending of a window's name: that of the first container that takes the streams as they are.

    Raises UnsupportedCodec where none does.
    """
    codecs = {stream.codec for stream in layout.streams}
    for ending in CONTAINERS:
        if codecs <= _held(ending):
            return ending
    raise UnsupportedCodec(f"no container holds {' and '.join(sorted(codecs))} together; use --transcode")


def can_hold(codec: str) -> bool:
    """Is there a container for this codec?"""
    return any(codec in _held(ending) for ending in CONTAINERS)


@functools.cache
def _held(ending: str) -> frozenset[str]:
    if ending == "mp4":
        return BROWSERS
    with av.open(io.BytesIO(), "w", format=CONTAINERS[ending]) as out:
        return frozenset(out.supported_codecs)


def write(cut: Cut, path: Path) -> None:
    """Writes the window as one file, whatever the name ends in.  Raises OSError, av.FFmpegError."""
    ending = suffix(cut.layout)
    options = {} if ending == "mkv" else {"movflags": "faststart"}
    with ExitStack() as stack:
        nut: Any = stack.enter_context(av.open(io.BytesIO(cut.layout.header), format="nut"))
        out: Any = stack.enter_context(av.open(str(path), "w", format=CONTAINERS[ending], options=options))
        for template in nut.streams:
            made = out.add_stream_from_template(template, opaque=True)
            made.time_base = template.time_base
            if template.codec_context.name == "hevc" and ending != "mkv":
                made.codec_context.codec_tag = "hvc1"
        zero = cut.first * cut.layout.streams[0].time_base
        for index, stream in enumerate(cut.layout.streams):
            samples = [sample for sample in cut.samples if sample.stream == index]
            if not samples:
                continue
            end = cut.end if index == 0 else None
            origin = round(zero / stream.time_base)
            for sample, pts, dts, duration in _timed(samples, end):
                packet = av.Packet(sample.data)
                packet.pts, packet.dts, packet.duration = pts - origin, dts - origin, duration
                packet.time_base, packet.is_keyframe, packet.stream = stream.time_base, sample.key, out.streams[index]
                out.mux_one(packet)


def _timed(samples: Sequence[Sample], end: int | None) -> list[tuple[Sample, int, int, int]]:
    """Each sample with presentation time, decoding time and duration.

    Decoding times are the presentation times in ascending order, all moved back by as much as the frame that is shown
    earliest after its turn needs: so they ascend, and none is later than its frame is shown.
    """
    times = [sample.pts or 0 for sample in samples]
    shown = sorted(times)
    for index, (before, after) in enumerate(pairwise(list(shown)), 1):
        shown[index] = max(after, before + 1, shown[index - 1] + 1)
    shift = max(ascending - pts for ascending, pts in zip(shown, times, strict=True))
    last = samples[-1].duration or (shown[-1] - shown[-2] if len(shown) > 1 else 1)
    follows = dict(
        zip(shown, [*shown[1:], max(shown[-1] + 1, end if end is not None else shown[-1] + last)], strict=True)
    )
    return [
        (sample, pts, ascending - shift, follows[ascending] - ascending)
        for sample, pts, ascending in zip(samples, times, shown, strict=True)
    ]
