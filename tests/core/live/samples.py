"""Packets of files as samples, and windows read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from tasks.core.live.cutter import Cutter, Jump, Limits
from tasks.core.live.recording import Cut, suffix, write
from tasks.core.live.streams import Layout, Sample, layout_of
from tests.media import read_ordinal


def read(path: Path, container_format: str | None = None) -> tuple[Layout, list[Sample]]:
    """The first video and the first sound of a file, packet by packet in its own order."""
    with av.open(str(path), format=container_format) as source:
        streams: list[Any] = [*source.streams.video[:1], *source.streams.audio[:1]]
        layout = layout_of(streams)
        order = {stream.index: number for number, stream in enumerate(streams)}
        samples = [
            Sample(order[p.stream_index], p.pts, p.duration or 0, p.is_keyframe, bytes(p))
            for p in source.demux(streams)
            if p.size
        ]
    return layout, samples


def cut(layout: Layout, samples: list[Sample], **limits: Any) -> list[Cut | Jump]:
    cutter = Cutter(layout, Limits(**limits))
    return [*(given for sample in samples for given in cutter.feed(sample)), *cutter.flush()]


def windows(layout: Layout, samples: list[Sample], **limits: Any) -> list[Cut]:
    return [given for given in cut(layout, samples, **limits) if isinstance(given, Cut)]


def write_all(cuts: list[Cut], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:03d}.{suffix(cut.layout)}" for number, cut in enumerate(cuts)]
    for one, path in zip(cuts, paths, strict=True):
        write(one, path)
    return paths


def frames(path: Path) -> list[tuple[float, int]]:
    """Time and drawn ordinal of each decoded frame."""
    with av.open(str(path)) as source:
        return [
            (float(frame.time or 0.0), read_ordinal(np.asarray(frame.to_ndarray(format="gray"), np.uint8)))
            for frame in source.decode(video=0)
        ]


def sound(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as source:
        yield from source.decode(audio=0)
