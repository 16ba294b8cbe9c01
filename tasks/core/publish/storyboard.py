"""Small pictures over a whole video in one file, and the WebVTT track that says which one belongs to which second."""

from __future__ import annotations

import io
import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.core.frame_plan import THUMBNAIL

Image8 = NDArray[np.uint8]

NAME: Final = "storyboard.jpg"
MOST: Final = 400
QUALITY: Final = 70
_CUE: Final = re.compile(
    r"^(\d{2,6}):(\d\d):(\d\d\.\d{3}) --> \S+\n(storyboard\.jpg#xywh=\d{1,6},\d{1,6},\d{1,6},\d{1,6})$", re.MULTILINE
)


def choose(times: Iterable[float], duration_s: float) -> list[int]:
    """Positions of the frames to show, at most MOST: the first of each even stretch of the media.

    `times` are in order. Call it before decoding, so that only these frames need to be read.
    """
    chosen: dict[int, int] = {}
    for position, time in enumerate(times):
        chosen.setdefault(_stretch(time, duration_s), position)
    return list(chosen.values())


def storyboard(frames: Iterable[tuple[float, Image8]], duration_s: float) -> tuple[bytes, str]:
    """(JPEG, WebVTT) of frames in order of time: each is media time in seconds and a BGR picture of any size.

    All pictures have the shape of the first one; where there are too many frames they are thinned out as `choose` does.
    A cue lasts until half-way to the next picture, so that the one shown is the nearest. Only small pictures are held:
    `frames` may decode as it goes. Raises ValueError when there are no frames.
    """
    pictures: dict[int, tuple[float, Image.Image]] = {}
    size = (0, 0)
    for time, frame in frames:
        stretch = _stretch(time, duration_s)
        if stretch in pictures:
            continue
        size = size if pictures else _size(frame)
        picture = Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))
        pictures[stretch] = time, picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    if not pictures:
        raise ValueError("a storyboard needs at least one frame")
    columns = math.ceil(math.sqrt(len(pictures)))
    places = [(at % columns * size[0], at // columns * size[1]) for at in range(len(pictures))]
    sheet = Image.new("RGB", (columns * size[0], math.ceil(len(pictures) / columns) * size[1]))
    for place, (_, picture) in zip(places, pictures.values(), strict=True):
        sheet.paste(picture, place)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    times = [time for time, _ in pictures.values()]
    return buffer.getvalue(), "".join(_cues(times, places, size, duration_s))


def picture_at(vtt: str, time: float) -> str | None:
    """The picture of a second as a media fragment, `storyboard.jpg#xywh=x,y,w,h`; None where the track has no cue.

    A time before the first or after the last cue gets that cue.
    """
    starts, fragments = _track(vtt)
    return fragments[max(bisect_right(starts, time) - 1, 0)] if fragments else None


@lru_cache(maxsize=64)
def _track(vtt: str) -> tuple[list[float], list[str]]:
    cues = sorted(
        (int(hours) * 3600 + int(minutes) * 60 + float(seconds), fragment)
        for hours, minutes, seconds, fragment in _CUE.findall(vtt)
    )
    return [start for start, _ in cues], [fragment for _, fragment in cues]


def _stretch(time: float, duration_s: float) -> int:
    return min(max(int(time * MOST / max(duration_s, 1e-9)), 0), MOST - 1)


def _size(frame: Image8) -> tuple[int, int]:
    height, width = frame.shape[:2]
    scale = min(THUMBNAIL[0] / width, THUMBNAIL[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cues(
    times: Sequence[float], places: Sequence[tuple[int, int]], size: tuple[int, int], duration_s: float
) -> Iterator[str]:
    yield "WEBVTT\n"
    borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(times)), max(duration_s, times[-1] + 0.001)]
    for (start, end), (x, y) in zip(itertools.pairwise(borders), places, strict=True):
        yield f"\n{_clock(start)} --> {_clock(end)}\n{NAME}#xywh={x},{y},{size[0]},{size[1]}\n"


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
