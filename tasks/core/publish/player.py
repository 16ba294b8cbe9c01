"""What a web browser can play, and how a report carries it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from tasks.core.schema import MediaInfo

EMBED_BYTES: Final = 8 * 2**20
"""Media up to this size travels inside the report."""

_CONTAINERS: Final = frozenset({"mp4", "webm", "ogg", "mp3", "wav", "flac"})
_VIDEO_CODECS: Final = frozenset({"h264", "vp8", "vp9", "av1"})
_AUDIO_CODECS: Final = frozenset({"aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le", "pcm_u8", "pcm_f32le"})
_PIXEL_FORMATS: Final = frozenset({"", "yuv420p", "yuvj420p"})


def shows_video(media: MediaInfo) -> bool:
    """False when a browser would show another picture than the one that was analysed: it takes the first."""
    return media.video is None or media.video.ordinal == 0


def playable(media: MediaInfo) -> bool:
    """True when current browsers play the file as it is: container, codecs and 8-bit 4:2:0 pixels."""
    video, audio = media.video, media.audio
    return (
        shows_video(media)
        and bool(_CONTAINERS & set(media.container.split(",")))
        and (video is None or (video.codec in _VIDEO_CODECS and video.pixel_format in _PIXEL_FORMATS))
        and (audio is None or audio.codec in _AUDIO_CODECS)
    )


def media_type(path: Path) -> str | None:
    """MIME type by the first bytes of a file, None for what browsers do not play."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2):
        return "audio/mpeg"
    return {b"fLaC": "audio/flac", b"OggS": "audio/ogg"}.get(head[:4])


def data_uri(kind: str, content: bytes) -> str:
    """`content` as a `data:` URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def local_link(url: str) -> str:
    """A link that leaves no machine: relative, or `file:`.

    Raises ValueError for any other scheme or host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("", "file") or (parts.netloc and parts.scheme != "file") or url.startswith(("//", "\\")):
        raise ValueError(f"a report links only to files beside it, not to {url!r}: give a relative path or file: URI")
    return quote(url, safe="/:%?=&#+,;@~!$'()*")


def source_name(source: str) -> str:
    """The last part of a path or URI, without query: what a person calls the media."""
    path = urlsplit(source).path if source.startswith(("https://", "http://")) else source
    return " ".join(path.rstrip("/").rsplit("/", 1)[-1].split()) or "media"


def source_text(source: str) -> str:
    """The source as it may be shown: a signed URL loses its query and any user and password."""
    if not source.startswith(("https://", "http://")):
        return source
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
