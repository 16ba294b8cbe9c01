import io
import re

import numpy as np
import pytest
from PIL import Image

from tasks.core.frame_plan import THUMBNAIL
from tasks.core.publish.storyboard import MOST, choose, picture_at, storyboard

COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (0, 0, 0)]
"""BGR."""


def frames(count: int, step_s: float = 1.0, shape: tuple[int, int] = (90, 160)) -> list[tuple[float, np.ndarray]]:
    return [(at * step_s, np.full((*shape, 3), COLOURS[at % len(COLOURS)], np.uint8)) for at in range(count)]


def crop(jpeg: bytes, fragment: str | None) -> np.ndarray:
    assert fragment is not None
    found = re.fullmatch(r"storyboard\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)", fragment)
    assert found is not None
    x, y, w, h = map(int, found.groups())
    image = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    assert y + h <= image.shape[0]
    assert x + w <= image.shape[1]
    return image[y : y + h, x : x + w]


def test_each_second_has_the_picture_of_the_nearest_frame() -> None:
    jpeg, vtt = storyboard(iter(frames(7)), 7.0)
    for time, nearest in [(0.0, 0), (0.4, 0), (0.6, 1), (1.0, 1), (2.49, 2), (2.51, 3), (6.9, 6), (99.0, 6), (-1.0, 0)]:
        picture = crop(jpeg, picture_at(vtt, time)).astype(int)
        assert np.abs(picture.mean(axis=(0, 1)) - COLOURS[nearest % 5][::-1]).max() < 12, time


def test_cues_are_webvtt_without_gaps_from_start_to_end() -> None:
    _, vtt = storyboard(frames(3, 2.0), 3661.5)
    assert vtt == ("WEBVTT\n\n00:00:00.000 --> 01:01:01.500\nstoryboard.jpg#xywh=0,0,160,90\n")
    _, vtt = storyboard(frames(3, 1300.0), 3661.5)
    times = re.findall(r"(\S+) --> (\S+)", vtt)
    assert times == [
        ("00:00:00.000", "00:10:50.000"),
        ("00:10:50.000", "00:32:30.000"),
        ("00:32:30.000", "01:01:01.500"),
    ]


def test_a_long_video_gets_at_most_400_pictures_evenly() -> None:
    made = frames(2000, shape=(9, 16))
    jpeg, vtt = storyboard(made, 2000.0)
    assert vtt.count("-->") == MOST
    assert [made[at][0] for at in choose([time for time, _ in made], 2000.0)] == [5.0 * at for at in range(MOST)]
    assert Image.open(io.BytesIO(jpeg)).size == (20 * THUMBNAIL[0], 20 * 90)
    assert len({picture_at(vtt, at * 5.0) for at in range(MOST)}) == MOST


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1080, 1920), (160, 90)), ((120, 100), (160, 192)), ((1920, 1080), (160, 284)), ((900, 3), (1, THUMBNAIL[1]))],
)
def test_pictures_keep_their_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    jpeg, vtt = storyboard(frames(2, shape=shape), 2.0)
    assert crop(jpeg, picture_at(vtt, 1.0)).shape[:2] == size[::-1]


def test_pictures_of_a_change_of_size_all_have_the_first_ones() -> None:
    _, vtt = storyboard([*frames(1), (1.0, np.zeros((300, 100, 3), np.uint8))], 2.0)
    assert vtt.count(",160,90\n") == 2


def test_nothing_to_show_is_an_error_and_an_alien_track_has_no_picture() -> None:
    with pytest.raises(ValueError, match="at least one"):
        storyboard([], 1.0)
    assert picture_at("", 1.0) is None
    assert picture_at("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhttps://x/evil.jpg#xywh=0,0,1,1\n", 0.5) is None
    assert choose([], 1.0) == []
