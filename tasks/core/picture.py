"""The one way from a stored picture to the displayed one, for frames (PyAV) and clips (ffmpeg) alike.

A stored picture is scaled to square pixels, where it is HDR or of wide colour made SDR, mirrored and turned, in this
order. The displayed size is that of the stream's first picture: one of another size is fitted into it, on black, as a
player does. Where a stream needs none of this, none of it is done.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.schema import VideoStream
from tasks.core.tone import table_file

if TYPE_CHECKING:  # whoever only asks for sizes need not load libav
    import av.filter
    from av.video.frame import VideoFrame

Size = tuple[int, int]
"""Width and height, pixels."""

MOST_ASPECT = 8
"""Pixels that claim to be this many times as wide as high, or more, or as high as wide, are taken for square."""


def displayed_size(stored: Size, pixel_aspect: Fraction, rotation: int) -> Size:
    """Size of a stored picture when it is displayed: one side is stretched, never one shrunk, as HTML has it."""
    width, height = _square(stored, plausible_aspect(pixel_aspect))
    return (height, width) if rotation % 180 else (width, height)


def plausible_aspect(claimed: Fraction | None) -> Fraction:
    """Width of a pixel by its height; 1 where nothing, or nothing that can be, is claimed."""
    if not claimed or not Fraction(1, MOST_ASPECT) < claimed < MOST_ASPECT:
        return Fraction(1)
    return claimed


def orientation(matrix: tuple[int, ...] | None) -> tuple[int, bool]:
    """Clockwise degrees (0, 90, 180, 270) and whether the stored picture is mirrored left to right before it is turned.

    `matrix` is the display matrix of ISO/IEC 14496-12 (9 numbers, row by row); a negative determinant mirrors.
    """
    if matrix is None:
        return 0, False
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = a * d - b * c < 0
    degrees = math.degrees(math.atan2(-b if mirrored else b, -a if mirrored else a))
    return round(degrees / 90) * 90 % 360, mirrored


class Display:
    """Turns decoded frames of one stream into displayed pictures of one size."""

    def __init__(self, video: VideoStream, size: Size, scaler: str = "AREA", table: Path | None = None) -> None:
        """`size` is that of the displayed pictures, `scaler` one of libswscale's by the name that PyAV gives it.

        `table` is tone_table's file, where that was made before.
        """
        self._video = video
        self._size = size[::-1] if video.rotation % 180 else size
        self._scaler = scaler
        self._stored = video.stored_size
        self._toned = needs_toning(video)
        self._table = table
        self._graphs: dict[Size, av.filter.Graph] = {}

    def image(self, frame: VideoFrame, pixel_aspect: Fraction | None = None) -> np.ndarray:
        """BGR uint8 (height, width, 3) as displayed; `pixel_aspect` counts where the size is not that of the first."""
        fitted = self._size
        if (frame.width, frame.height) != self._stored:
            fitted = fit(_square((frame.width, frame.height), plausible_aspect(pixel_aspect)), self._size)
        interpolation = self._scaler if fitted != (frame.width, frame.height) else None
        if self._toned:
            deep = frame.reformat(*fitted, "gbrp16le", interpolation=interpolation, threads=1)
            image: np.ndarray = self._tone(deep).reformat(format="bgr24", threads=1).to_ndarray()
        else:
            image = frame.reformat(*fitted, "bgr24", interpolation=interpolation, threads=1).to_ndarray()
        if fitted != self._size:
            image = _on_black(image, self._size)
        if self._video.mirrored:
            image = image[:, ::-1]
        if self._video.rotation:
            image = np.rot90(image, k=-self._video.rotation // 90)
        return np.ascontiguousarray(image)

    def _tone(self, frame: VideoFrame) -> VideoFrame:
        import av.filter

        size = frame.width, frame.height
        if size not in self._graphs:
            graph = av.filter.Graph()
            source = graph.add_buffer(width=size[0], height=size[1], format=frame.format, time_base=Fraction(1, 1000))
            table = graph.add("lut3d", file=str(self._table or tone_table(self._video)))
            sink = graph.add("buffersink")
            source.link_to(table)
            table.link_to(sink)
            graph.configure()
            self._graphs[size] = graph
        graph = self._graphs[size]
        graph.push(frame)
        toned = graph.pull()
        assert isinstance(toned, av.VideoFrame)  # noqa: S101
        return toned


def display_filters(picture: Any, video: VideoStream, height: int) -> Any:
    """An ffmpeg-python video stream as displayed: even sides, at most `height` pixels high, 8-bit 4:2:0.

    The input must be opened with DECODER_OPTIONS: nothing but these filters may turn or resize pictures.
    """
    scale = min(Fraction(1), Fraction(height, video.height))
    upright = even(video.width * scale), even(video.height * scale)
    width, high = upright[::-1] if video.rotation % 180 else upright
    stored = video.stored_size
    # a picture of the stream's usual size fills all of it; another one keeps its own shape
    usual = f"eq(iw,{stored[0]})*eq(ih,{stored[1]})"
    picture = picture.filter(
        "scale",
        w=f"if({usual},{width},2*max(1,round(min({width},{high}*dar)/2)))",
        h=f"if({usual},{high},2*max(1,round(min({high},{width}/dar)/2)))",
        eval="frame",
        flags="area",
    )
    picture = picture.filter("pad", w=width, h=high, x="(ow-iw)/2", y="(oh-ih)/2", eval="frame")
    if needs_toning(video):
        picture = picture.filter("format", "gbrp16le").filter("lut3d", file=tone_table(video))
        picture = picture.filter("scale", out_color_matrix="bt709", out_range="tv")
    if video.mirrored:
        picture = picture.filter("hflip")
    if video.rotation == 180:
        picture = picture.filter("hflip").filter("vflip")
    elif video.rotation:
        picture = picture.filter("transpose", "clock" if video.rotation == 90 else "cclock")
    return picture.filter("setsar", 1).filter("format", "yuv420p")


DECODER_OPTIONS: dict[str, Any] = {"noautorotate": None, "reinit_filter:v": 0}
"""Of an ffmpeg input whose pictures go through display_filters."""


def needs_toning(video: VideoStream) -> bool:
    """Are its colours others than an SDR display's?"""
    return video.transfer != "sdr" or video.primaries != "bt709"


def tone_table(video: VideoStream) -> Path | None:
    """The file of the table that makes its colours those of an SDR display; None where they are."""
    return table_file(video.transfer, video.primaries) if needs_toning(video) else None


def fit(size: Size, into: Size) -> Size:
    """The largest size of the same shape that `into` holds."""
    scale = min(Fraction(into[0], size[0]), Fraction(into[1], size[1]))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def even(length: Fraction) -> int:
    """The even number at or below, at least 2: sides of 4:2:0 pictures."""
    return max(2, int(length) // 2 * 2)


def _square(stored: Size, aspect: Fraction) -> Size:
    width, height = stored
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def _on_black(image: np.ndarray, size: Size) -> np.ndarray:
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    top, left = (size[1] - image.shape[0]) // 2, (size[0] - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
