"""HLS: the playlist is asked for again and again, each segment is read once, in the order of its number.

Playlist, redirects and segments are fetched under the same rules for hosts as any source; libav gets bytes and opens
nothing. A segment that left the playlist before it was read is a jump, which becomes a gap.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import av

from tasks.core.errors import NetworkError, NotMedia, SourceNotFound, UnsupportedSource
from tasks.core.live.address import Address
from tasks.core.web import open_http

MOST_PLAYLIST_BYTES = 2**20
MOST_SEGMENT_BYTES = 256 * 2**20
SEGMENT_S = 60.0
"""Longest that one request may take."""
FORMATS = "mpegts,mov,mp4,aac,mp3"
BEHIND = 3
"""Segments before the end of a live playlist at which reading begins, as players do."""


@dataclass(frozen=True)
class Segment:
    """One segment's bytes, with what its playlist says of it."""

    data: bytes
    number: int
    date: float | None
    """Unix time of its first frame (EXT-X-PROGRAM-DATE-TIME)."""
    breaks: bool
    """Its clock has nothing to do with that of the segment before it."""


class Playlist:
    """Segments of a stream, as they appear."""

    def __init__(self, address: Address, *, allow_private_hosts: bool, silent_s: float, stopping: threading.Event):
        self._address, self._private, self._silent_s = address, allow_private_hosts, silent_s
        self._stopping = stopping
        self._url = address.url
        self.ended = False
        """The playlist said that nothing more comes."""

    def segments(self) -> Iterator[Segment]:
        """Segments in order until the playlist ends.

        Raises NetworkError where nothing new comes in time, NotMedia, UnsupportedSource (encryption), SourceNotFound.
        """
        import m3u8

        expected: int | None = None
        new_at = time.monotonic()
        headers: dict[str, bytes] = {}
        while not self._stopping.is_set():
            asked = time.monotonic()
            text = self._get(self._url, MOST_PLAYLIST_BYTES).decode(errors="replace")
            if not text.lstrip().startswith("#EXTM3U"):
                raise NotMedia(f"{self._address}: what comes is no playlist")
            try:
                found = m3u8.loads(text, uri=self._url)
            except Exception:  # its parser raises whatever it stumbles over
                raise NotMedia(f"{self._address}: its playlist cannot be read") from None
            if found.is_variant:
                best = max(found.playlists, key=lambda one: one.stream_info.bandwidth or 0)
                self._url = best.absolute_uri
                continue
            first = found.media_sequence or 0
            if expected is None:
                live = not found.is_endlist and found.playlist_type != "event"
                expected = first + (max(0, len(found.segments) - BEHIND) if live else 0)
            for number, segment in enumerate(found.segments, first):
                if number < expected or self._stopping.is_set():
                    continue
                if segment.key is not None and (segment.key.method or "NONE") != "NONE":
                    raise UnsupportedSource(f"{self._address}: its segments are encrypted ({segment.key.method})")
                head = b""
                if segment.init_section is not None:
                    where = segment.init_section.absolute_uri
                    head = headers.get(where) or self._get(where, MOST_SEGMENT_BYTES)
                    headers = {where: head}
                date = segment.current_program_date_time
                try:
                    body = self._get(segment.absolute_uri, MOST_SEGMENT_BYTES)
                except SourceNotFound:
                    continue  # it expired: the next one's number says so
                breaks = number != expected or bool(segment.discontinuity)
                expected, new_at = number + 1, time.monotonic()
                yield Segment(head + body, number, date.timestamp() if date else None, breaks)
            if found.is_endlist:
                self.ended = True
                return
            if first + len(found.segments) < expected:
                expected = None  # the numbers began anew
            if time.monotonic() - new_at > self._silent_s + 3 * float(found.target_duration or 10):
                raise NetworkError(f"{self._address}: its playlist names nothing new")
            self._stopping.wait(max(0.2, float(found.target_duration or 2) / 2 - (time.monotonic() - asked)))

    def _get(self, url: str, most: int) -> bytes:
        if urlsplit(url).scheme not in ("http", "https"):
            raise UnsupportedSource(f"{self._address}: its playlist leads to an address that is no http(s)")
        chunks, size = [], 0
        deadline = time.monotonic() + SEGMENT_S
        with open_http(url, {}, allow_private_hosts=self._private, deadline=deadline) as remote:
            for chunk in remote.chunks or ():
                size += len(chunk)
                if size > most:
                    raise UnsupportedSource(f"{self._address}: one of its segments is larger than {most} bytes")
                chunks.append(chunk)
        return b"".join(chunks)


def open_segment(segment: Segment) -> Any:
    """The segment as a container: nothing that it names is opened.  Raises av.FFmpegError."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "pipe"}
    return av.open(io.BytesIO(segment.data), options=options, metadata_errors="replace")
