"""What is shown of a source tells no secret, however the source was written."""

from __future__ import annotations

import pytest

from tasks.core.schema import MediaRef
from tasks.core.source_names import carries_credentials, display_source, hide_secrets, short_name

SIGNED = "X-Amz-Credential=AKIA%2F20261128&X-Amz-Signature=s3cret"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (f"https://me:s3cret@host:8443/a%20b.mp4?{SIGNED}#frag", "https://host:8443/a%20b.mp4"),
        ("https://host?sig=s3cret/x", "https://host"),
        ("https://me:s3cret@host", "https://host"),
        ("HTTP://host", "http://host"),
        ("s3://bucket/key?with#odd", "s3://bucket/key?with#odd"),
        ("s3://AKIA:s3cret@bucket/a@b", "s3://bucket/a@b"),
        (f"s3://bucket/key?{SIGNED}", "s3://bucket/key"),
        ("ftp://me:s3cret@host/x", "ftp://..."),
        ("https://[broken?token=s3cret", "https://(no valid address)"),
        (f"https:/host/a.mp4?{SIGNED}", "https:/host/a.mp4"),
        (f"host/a.mp4?{SIGNED}", "host/a.mp4"),
        ("//me:s3cret@host/a.mp4", "//host/a.mp4"),
        ("secret://gate-camera", "secret://gate-camera"),
        ("secret://s3cret/path?x", "secret://..."),
        ("https://host/a.mp4#secret=cdn", "https://host/a.mp4"),
        ("https://me:s3cret@host/a.mp4#secret=cdn", "https://host/a.mp4"),
        ("rtsp://host:554/live#secret=gate", "rtsp://host:554/live"),
        ("rtsp://me:s3cret@host/live#secret=gate", "rtsp://..."),
        ("s3://bucket/key#secret=x", "s3://bucket/key#secret=x"),
        ("/a/what?now=1/b@c:d.mp4", "/a/what?now=1/b@c:d.mp4"),
        ("/a/new\nline\x1b[2J", "/a/new\\nline\\x1b[2J"),
    ],
)
def test_what_is_shown_of_a_source(source: str, shown: str) -> None:
    assert display_source(source) == shown
    assert "s3cret" not in short_name(source)
    assert "s3cret" not in MediaRef(media_id="m", source=source, bytes=1, store="file:///s").name


@pytest.mark.parametrize(
    ("source", "carries"),
    [
        ("https://me:pw@host/a", True),
        ("https://token@host", True),
        ("HTTPS://host/a?id=1", True),
        ("https://host/a#x", True),
        ("https://host/a#secret=cdn&token=x", True),
        ("https://host/a?x#secret=cdn", True),
        ("https:/host/a?sig=1", True),
        ("rtsp://me:pw@host/live", True),
        ("s3://key:pw@bucket/a", True),
        ("//me:pw@host/a", True),
        ("https://host/a@b:c", False),
        ("https://host/a#secret=cdn", False),
        ("secret://gate", False),
        ("s3://bucket/what?token=1#x@y", False),
        ("file:///a/what?token=1#x@y", False),
        ("/a/what?token=1#x@y", False),
        ("a?token=1.mp4", False),
    ],
)
def test_what_may_carry_credentials(source: str, carries: bool) -> None:
    assert carries_credentials(source) is carries


def test_a_short_name_is_the_last_part() -> None:
    assert short_name(f"https://host/a/b.mp4?{SIGNED}") == "b.mp4"
    assert short_name("s3://bucket/in/talk/") == "talk"
    assert len(short_name("/x" * 200)) <= 60
    assert short_name("") == "?"


def test_urls_within_a_text_lose_their_secrets() -> None:
    text = f"InvalidURL('https://me:s3cret@host/a.mp4?{SIGNED}'): see s3://k:s3cret@b/c, http://host/x and file.mp4"
    assert hide_secrets(text) == "InvalidURL('https://host/a.mp4'): see s3://b/c, http://host/x and file.mp4"
