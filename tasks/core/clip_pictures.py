"""From when to when there are pictures in clips that were cut: run in a confined child by clips.py (decoding.py)."""

from __future__ import annotations

import math
from pathlib import Path

import av

from tasks.core.container import open_media
from tasks.core.decoding import answer
from tasks.core.errors import CorruptMedia


def main(*paths: str) -> None:
    """Prints a list of [start, end], seconds in clip time; null for a clip without pictures."""
    answer(lambda: [_span(Path(path)) for path in paths])


def _span(path: Path) -> tuple[float, float] | None:
    begins, ends = math.inf, 0.0
    try:
        with open_media(path) as container:
            for packet in container.demux(container.streams.video) if container.streams.video else ():
                if packet.pts is not None and packet.time_base is not None:
                    begins = min(begins, float(packet.pts * packet.time_base))
                    ends = max(ends, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    except (av.FFmpegError, CorruptMedia):
        return None
    return None if math.isinf(begins) else (begins, ends)
