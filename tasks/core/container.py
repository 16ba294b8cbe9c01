"""Opens local media with PyAV under the same allowlists as ffmpeg: one file, no network, no playlists or scripts."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from tasks.core.errors import CorruptMedia, EmptySource, ForbiddenFormat, PermissionDenied, SourceNotFound
from tasks.core.ffmpeg import DEMUXERS, PROTOCOLS, media_name
from tasks.core.ogg_tail import MendedFile, cut_tail


def open_media(path: Path) -> InputContainer:
    """An opened container; use it as a context manager.

    Raises SourceNotFound, PermissionDenied, EmptySource, ForbiddenFormat (a format that is not on the allowlist) or
    CorruptMedia.
    """
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": DEMUXERS}
    try:
        if path.stat().st_size == 0:
            raise EmptySource(f"{media_name(path)} is empty; upload it again")
        tail = cut_tail(path)
        source = MendedFile(path, tail) if tail else f"file:{path.absolute()}"
        return av.open(source, "r", options=options, metadata_errors="replace")
    except FileNotFoundError as error:
        raise SourceNotFound(f"{media_name(path)} does not exist; check its path") from error
    except PermissionError as error:
        raise PermissionDenied(f"{media_name(path)} may not be read; check its permissions") from error
    except av.FFmpegError as error:
        if "hitelist" in str(error):
            raise ForbiddenFormat(f"{media_name(path)} is no media container that is read here") from error
        raise CorruptMedia(f"{media_name(path)} cannot be opened; upload it again", detail=str(error)) from error
