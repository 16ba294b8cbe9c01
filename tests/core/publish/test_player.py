from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.publish.player import (
    data_uri,
    local_link,
    media_type,
    playable,
    shows_video,
    source_name,
    source_text,
)
from tasks.core.publish.report import report
from tests.core.publish.results import media, result


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"\0\0\x01\xba", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_content_decides_the_type(tmp_path: Path, head: bytes, kind: str | None) -> None:
    path = tmp_path / "media.mp4"
    path.write_bytes(head)
    assert media_type(path) == kind


def test_real_files_are_recognised(sample: Callable[..., Path]) -> None:
    assert media_type(sample("talk")) == "video/mp4"


def test_playable_needs_container_codecs_and_pixels_that_browsers_know() -> None:
    known = media()
    assert known.video is not None
    assert playable(known)
    assert playable(media(video=False))
    assert not playable(media(container="mpeg"))
    assert not playable(known.model_copy(update={"video": known.video.model_copy(update={"codec": "mpeg1video"})}))
    assert not playable(
        known.model_copy(update={"video": known.video.model_copy(update={"pixel_format": "yuv420p10le"})})
    )


def test_a_browser_plays_the_first_video_stream_whichever_was_analysed() -> None:
    known = media()
    assert known.video is not None
    second = known.model_copy(update={"video": known.video.model_copy(update={"index": 2, "ordinal": 1})})
    assert shows_video(known)
    assert shows_video(media(video=False))
    assert not shows_video(second)
    assert not playable(second)
    page = report(result(media=second), player_url="clip.mp4")
    assert "clip.mp4" not in page
    assert "clip.mp4" in report(result(), player_url="clip.mp4")


@pytest.mark.parametrize("url", ["clip.mp4", "../media/a b.mp4", "file:///data/a%20b.mp4", "./x'\"<y>.mp4"])
def test_local_links_are_kept(url: str) -> None:
    assert not set(local_link(url)) & set(' <>"')


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//host/x.mp4", "data:text/html,x", " javascript:x", "\\\\host\\x", "ftp://host/x"]
)
def test_other_links_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="relative path or file:"):
        local_link(url)


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("s3://bucket/a/b c.mp4", "b c.mp4", "s3://bucket/a/b c.mp4"),
        ("/data/what? #1.mp4", "what? #1.mp4", "/data/what? #1.mp4"),
        ("/data/a\nb.mp4", "a b.mp4", "/data/a\nb.mp4"),
        ("https://me:pw@host/x/y.mp4?X-Amz-Signature=1", "y.mp4", "https://host/x/y.mp4"),
        ("https://host/", "media", "https://host/"),
    ],
)
def test_source_is_shown_without_secrets(source: str, name: str, text: str) -> None:
    assert source_name(source) == name
    assert source_text(source) == text


def test_data_uri() -> None:
    assert data_uri("image/jpeg", b"\xff\xd8") == "data:image/jpeg;base64,/9g="
