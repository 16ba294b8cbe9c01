import io

import pytest
from PIL import Image
from starlette.testclient import TestClient

from flows.explorer import pictures
from flows.explorer.pictures import Pictures, parse_xywh
from tasks.core.schema import Result
from tasks.store import Store
from tests.flows.explorer.stores import BLUE, GREEN, RED


def color(jpeg: bytes | None) -> tuple[int, ...]:
    """The middle pixel of a picture, BGR, each channel 0 or 255."""
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as picture:
        pixel = picture.getpixel((picture.width // 2, picture.height // 2))
        assert isinstance(pixel, tuple)
        return tuple(255 * (value > 127) for value in reversed(pixel))


@pytest.mark.parametrize(("time", "expected"), [(0, BLUE), (0.9, GREEN), (2.1, RED), (3, BLUE), (1e6, BLUE)])
def test_the_nearest_picture_is_given(store: Store, shown: Result, time: float, expected: tuple[int, ...]) -> None:
    assert color(Pictures(store).at(shown.media_id, time)) == expected


def test_a_crop_is_that_part(store: Store, shown: Result) -> None:
    cut = Pictures(store).crop(shown.media_id, (160, 0, 160, 90))
    assert color(cut) == GREEN
    with Image.open(io.BytesIO(cut or b"")) as picture:
        assert picture.size == (160, 90)


@pytest.mark.parametrize("crop", [(300, 0, 160, 90), (0, 0, 9999, 9999), (99999, 99999, 1, 1)])
def test_a_crop_beyond_the_storyboard_is_none(store: Store, shown: Result, crop: tuple[int, int, int, int]) -> None:
    assert Pictures(store).crop(shown.media_id, crop) is None


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "0,0,0,5", "-1,0,5,5", "0,0,99999,5", "a,b,c,d", "0,0,5,5\n", "٠,٠,٥,٥,"]
)
def test_what_is_no_crop_is_refused(text: str) -> None:
    assert parse_xywh(text) is None


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut short", b"GIF89a"])
def test_a_damaged_storyboard_is_no_picture(store: Store, shown: Result, content: bytes) -> None:
    store.write(f"media/{shown.media_id}/storyboard.jpg", content)
    assert Pictures(store).crop(shown.media_id, (0, 0, 1, 1)) is None


def test_a_storyboard_too_large_is_not_decoded(store: Store, shown: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    assert Pictures(store).crop(shown.media_id, (0, 0, 1, 1)) is None


def test_old_media_have_a_plain_picture(client: TestClient, store: Store, shown: Result) -> None:
    for name in ("storyboard.jpg", "storyboard.vtt"):
        store.delete(f"media/{shown.media_id}/{name}")
    for query in ("t=1", "xywh=0,0,9,9", "xywh=<script>", ""):
        answer = client.get(f"/api/media/{shown.media_id}/picture?{query}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert client.get(f"/api/media/{shown.media_id}/picture?t=nan").status_code == 400
