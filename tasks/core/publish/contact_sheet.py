"""One picture of a media: its frames with the objects found in them, or the waveform where there are no frames."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks.core.publish.palette import class_colors, rgb
from tasks.core.publish.waveform import clock, resample
from tasks.core.schema import FrameDetections, Interval

Image8 = NDArray[np.uint8]
Edges = tuple[int, int, int, int]

TILE: Final = (400, 300)
"""Largest tile, pixels: frames keep their shape inside."""

GAP: Final = 8
QUALITY: Final = 85
GROUND: Final = (17, 18, 20)
INK: Final = (236, 237, 238)
QUIET: Final = (120, 124, 130)
SPEECH: Final = (76, 141, 255)
LABEL_HEIGHT: Final = 16
HEADING_HEIGHT: Final = 26
_LABEL_CHARACTERS: Final = 28
_LINE_CHARACTERS: Final = 300


def choose(detections: Sequence[FrameDetections], max_frames: int = 16) -> list[int]:
    """Positions of the frames to show: even stretches of the media, from each the frame with the most boxes.

    Call it before decoding, so that only these frames need to be read. Ties go to the middle of the stretch.
    """
    count = min(len(detections), max_frames)
    chosen = []
    for slot in range(count):
        low, high = slot * len(detections) // count, (slot + 1) * len(detections) // count
        middle = (low + high - 1) / 2
        chosen.append(max(range(low, high), key=lambda at: (len(detections[at].boxes), -abs(at - middle))))
    return chosen


def contact_sheet(
    frames: Sequence[Image8],
    detections: Sequence[FrameDetections],
    source_size: tuple[int, int],
    *,
    columns: int = 4,
    max_frames: int = 16,
    heading: Sequence[str] = (),
) -> bytes:
    """JPEG of tiles with boxes, class names, confidences and times.

    `frames` are BGR (height x width x 3, uint8) of any size; `detections[i]` belongs to `frames[i]` and its boxes are
    pixels of a frame of `source_size` (width, height). Frames beyond `max_frames` are thinned out by `choose`.
    Lines of `heading` stand above the tiles, cut to fit.
    Raises ValueError when there are no frames or the two sequences differ in length.
    """
    if not frames or len(frames) != len(detections):
        raise ValueError(f"a contact sheet needs one list of boxes per frame: {len(frames)} frames, {len(detections)}")
    colors = class_colors(box.class_ for frame in detections for box in frame.boxes)
    chosen = choose(detections, max_frames)
    scale = min(TILE[0] / source_size[0], TILE[1] / source_size[1])
    size = max(1, round(source_size[0] * scale)), max(1, round(source_size[1] * scale))
    tiles = [_tile(frames[at], detections[at], source_size, size, colors) for at in chosen]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    top = len(heading) * HEADING_HEIGHT
    width = columns * (size[0] + GAP) + GAP
    sheet = Image.new("RGB", (width, top + rows * (size[1] + GAP) + GAP), GROUND)
    for number, line in enumerate(heading):
        _heading(ImageDraw.Draw(sheet), number, line, width)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (GAP + column * (size[0] + GAP), top + GAP + row * (size[1] + GAP)))
    return _jpeg(sheet)


def audio_sheet(peaks: Sequence[float], duration_s: float, speech: Sequence[Interval] = ()) -> bytes:
    """JPEG of the waveform in up to six rows, speech in colour, a time at the start of each row.

    `peaks` are amplitudes from 0 to 1 at even steps over `duration_s`; none draw a flat line.
    """
    width, height, margin = 1600, 130, 70
    rows = max(1, min(6, math.ceil(duration_s / 20)))
    sheet = Image.new("RGB", (width, rows * height + 2 * GAP), GROUND)
    draw = ImageDraw.Draw(sheet)
    font = _font(17)
    bars = (width - margin - 2 * GAP) // 4
    levels = resample(peaks, rows * bars)
    loudest = max(max(levels, default=0.0), 0.05)
    spoken = _mask(speech, duration_s, len(levels))
    for row in range(rows):
        center = GAP + row * height + height // 2
        draw.text((GAP, center), clock(row * duration_s / rows), QUIET, font=font, anchor="lm")
        for bar in range(bars):
            at = row * bars + bar
            half = max(1, round(levels[at] / loudest * (height / 2 - 8)))
            left = margin + bar * 4
            draw.rectangle((left, center - half, left + 2, center + half), SPEECH if spoken[at] else QUIET)
    return _jpeg(sheet)


def _heading(draw: ImageDraw.ImageDraw, number: int, line: str, width: int) -> None:
    font = _font(17 if number == 0 else 14)
    text = " ".join(line.split())[:_LINE_CHARACTERS]
    while text and draw.textlength(text, font=font) > width - 2 * GAP:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    middle = GAP + number * HEADING_HEIGHT + HEADING_HEIGHT // 2
    draw.text((GAP, middle), text, INK if number == 0 else QUIET, font=font, anchor="lm")


def _tile(
    frame: Image8, found: FrameDetections, source: tuple[int, int], size: tuple[int, int], colors: dict[str, str]
) -> Image.Image:
    tile = Image.fromarray(np.ascontiguousarray(frame[..., ::-1])).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(tile)
    surest = sorted(found.boxes, key=lambda box: -box.confidence)
    edges = [_edges(box.xyxy, source, size) for box in surest]
    for box, edge in zip(surest, edges, strict=True):
        draw.rectangle(edge, outline=rgb(colors[box.class_]), width=2)
    taken = [_label(draw, size, clock(found.time, tenths=True), GROUND, size, [])]
    for box, (x1, y1, _, _) in zip(surest, edges, strict=True):
        name = " ".join(box.class_.split())[:_LABEL_CHARACTERS]
        place = x1, y1 - LABEL_HEIGHT if y1 >= LABEL_HEIGHT else y1
        taken.append(_label(draw, place, f"{name} {box.confidence:.0%}", rgb(colors[box.class_]), size, taken))
    return tile


def _edges(xyxy: tuple[float, float, float, float], source: tuple[int, int], size: tuple[int, int]) -> Edges:
    """Source pixels to tile pixels, clipped to the tile and in order."""
    x1, x2 = sorted(round(min(max(x / source[0], 0.0), 1.0) * (size[0] - 1)) for x in xyxy[0::2])
    y1, y2 = sorted(round(min(max(y / source[1], 0.0), 1.0) * (size[1] - 1)) for y in xyxy[1::2])
    return x1, y1, x2, y2


def _label(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    ground: tuple[int, int, int],
    size: tuple[int, int],
    taken: Sequence[Edges],
) -> Edges:
    """Text on a ground of its own, moved inside the tile; nothing is drawn where it would cover a label in `taken`."""
    font = _font(13)
    width = math.ceil(draw.textlength(text, font=font)) + 7
    left, top = max(0, min(at[0], size[0] - width)), max(0, min(at[1], size[1] - LABEL_HEIGHT))
    place = left, top, left + width, top + LABEL_HEIGHT
    if any(place[0] < x2 and x1 < place[2] and place[1] < y2 and y1 < place[3] for x1, y1, x2, y2 in taken):
        return (0, 0, 0, 0)
    draw.rectangle(place, ground)
    draw.text((left + 4, top), text, GROUND if sum(ground) > 330 else INK, font=font)
    return place


@lru_cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own, unpacked once per process, which takes longer than drawing with it."""
    return ImageFont.load_default(size)


def _mask(speech: Sequence[Interval], duration_s: float, steps: int) -> list[bool]:
    spoken = [False] * steps
    for interval in speech:
        first = int(interval.start / max(duration_s, 1e-9) * steps)
        last = math.ceil(interval.end / max(duration_s, 1e-9) * steps)
        for at in range(max(first, 0), min(last, steps)):
            spoken[at] = True
    return spoken


def _jpeg(image: Image.Image) -> bytes:
    """Colour at full resolution (4:4:4): thin coloured lines would fade at half."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True, subsampling=0)
    return buffer.getvalue()
