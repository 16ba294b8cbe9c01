import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from tasks.core.publish.contact_sheet import GAP, SPEECH, TILE, audio_sheet, choose, contact_sheet
from tasks.core.publish.palette import class_colors, rgb
from tasks.core.schema import Box, FrameDetections, Interval
from tests.core.publish.results import ATTACKS


def found(*counts: int, name: str = "car") -> list[FrameDetections]:
    box = Box(xyxy=(40, 40, 160, 100), class_=name, confidence=0.9)
    return [FrameDetections(index=at, time=float(at), boxes=[box] * n) for at, n in enumerate(counts)]


def grey(count: int, level: int = 128) -> list[np.ndarray]:
    return [np.full((120, 200, 3), level, np.uint8) for _ in range(count)]


def pixels(jpeg: bytes) -> np.ndarray:
    assert jpeg[:3] == b"\xff\xd8\xff"
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def near(image: np.ndarray, color: Sequence[int], within: int = 40) -> int:
    return int((np.abs(image - np.array(color)).max(axis=-1) < within).sum())


def test_boxes_are_drawn_in_the_colour_of_their_class_and_in_their_place() -> None:
    sheet = pixels(contact_sheet(grey(1), found(1), (200, 120)))
    color = rgb(class_colors(["car"])["car"])
    assert near(sheet, color) > 300
    assert near(pixels(contact_sheet(grey(1), found(0), (200, 120))), color) == 0
    left, bottom = GAP + 40 * 2, GAP + 100 * 2
    assert near(sheet[bottom - 30 : bottom - 10, left - 3 : left + 4], color) >= 20


def test_boxes_are_in_source_pixels_whatever_the_frame_was_scaled_to() -> None:
    small, large = grey(1), [np.full((480, 800, 3), 128, np.uint8)]
    first, second = (pixels(contact_sheet(frames, found(1), (200, 120))) for frames in (small, large))
    assert np.abs(first - second).mean() < 1


def test_frames_are_read_as_bgr() -> None:
    blue = np.zeros((60, 100, 3), np.uint8)
    blue[..., 0] = 255
    sheet = pixels(contact_sheet([blue], found(0), (100, 60)))
    assert near(sheet, (0, 0, 255)) > 1000


def test_tiles_fill_columns_and_the_most_frames_is_kept() -> None:
    image = Image.open(io.BytesIO(contact_sheet(grey(30), found(*[1] * 30), (200, 120), columns=4, max_frames=8)))
    tile_height = round(120 * min(TILE[0] / 200, TILE[1] / 120))
    assert image.size == (4 * (TILE[0] + GAP) + GAP, 2 * (tile_height + GAP) + GAP)


def test_portrait_frames_keep_their_shape() -> None:
    image = Image.open(io.BytesIO(contact_sheet(grey(1), found(0), (720, 1280))))
    assert (image.size[1] - 2 * GAP) / (image.size[0] - 2 * GAP) == pytest.approx(16 / 9, rel=0.02)


def test_the_choice_is_even_and_prefers_frames_with_boxes() -> None:
    assert choose(found(0, 0, 3, 0, 1, 0, 0, 0, 0, 2, 0, 0), max_frames=3) == [2, 4, 9]
    assert choose(found(*[0] * 9), max_frames=3) == [1, 4, 7]
    assert choose(found(0, 1), max_frames=16) == [0, 1]
    assert choose([]) == []


def test_boxes_beyond_the_frame_and_hostile_names_are_drawn_all_the_same() -> None:
    boxes = [Box(xyxy=(-50, 90, 1e9, -3), class_=name, confidence=2.0) for name in ATTACKS]
    sheet = contact_sheet(grey(1), [FrameDetections(index=0, time=1e6, boxes=boxes)], (200, 120))
    assert pixels(sheet).std() > 1


def test_frames_without_their_boxes_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 frames"):
        contact_sheet(grey(2), found(1), (200, 120))
    with pytest.raises(ValueError, match="0 frames"):
        contact_sheet([], [], (200, 120))


def test_sound_is_drawn_with_speech_in_colour() -> None:
    peaks = [0.0] * 50 + [0.8] * 50
    silent, spoken = (pixels(audio_sheet(peaks, 10.0, speech)) for speech in ([], [Interval(start=5, end=10)]))
    assert near(silent, SPEECH) == 0
    assert near(spoken, SPEECH) > 5000
    middle = spoken.shape[1] // 2
    assert near(spoken[:, : middle - 100], SPEECH) == 0


def test_long_sound_takes_more_rows_and_no_sound_is_still_a_picture() -> None:
    assert pixels(audio_sheet([0.5] * 100, 3600)).shape[0] > pixels(audio_sheet([0.5] * 100, 5)).shape[0]
    assert pixels(audio_sheet([], 0.0)).std() > 0
