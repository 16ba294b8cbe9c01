"""Addresses of streams: which may be opened, how libav is told to, and what may be said of them.

A password stands in an address as the user wrote it and goes to libav in the process that captures, nowhere else:
messages are made here from what is known, never from libav's texts, which hold the address.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from tasks.core.addresses import is_public
from tasks.core.container import open_media
from tasks.core.errors import (
    NetworkError,
    NotMedia,
    PermanentError,
    PermissionDenied,
    ReelflowError,
    SourceNotFound,
    UnsupportedSource,
)
from tasks.core.ffmpeg import DEMUXERS
from tasks.core.source_names import display_source

CAMERA_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt"})
"""Protocols of cameras and encoders, which live on private networks."""
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,srtp,tcp,udp",
    "rtsps": "rtsp,rtsps,rtp,srtp,tcp,udp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmp,rtmps,tcp,tls",
}
_FORMATS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv,live_flv", "rtmps": "flv,live_flv"}
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}


class Silent(NetworkError):
    """Nothing came in time, though the connection may stand."""


@dataclass(frozen=True)
class Address:
    """Where a stream comes from. Never log `url`; `str()` and `repr()` show it without its secrets."""

    url: str

    @property
    def scheme(self) -> str:
        scheme, mark, _ = self.url.partition("://")
        return scheme.lower() if mark else "file"

    @property
    def is_file(self) -> bool:
        return self.scheme == "file"

    @property
    def is_playlist(self) -> bool:
        """Is it HLS, by its name?"""
        path = self.url.partition("?")[0].partition("#")[0]
        return self.scheme in ("http", "https") and path.lower().endswith((".m3u8", ".m3u"))

    @property
    def host(self) -> tuple[str, int]:
        """Name or address, and port."""
        place = self._place
        if place.startswith("["):
            name, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = place.partition(":")
        return name, int(port) if port.isdigit() else _PORTS.get(self.scheme, 0)

    @property
    def has_secret(self) -> bool:
        """Does it hold what others must not read?"""
        return not self.is_file and "@" in self.url

    def at(self, host: str) -> str:
        """The URL with another host name."""
        start = self.url.rfind("@") + 1 or len(self.scheme) + len("://")
        port = self._place.rpartition("]")[2] if self._place.startswith("[") else self._place.partition(":")[2]
        named = f"[{host}]" if ":" in host else host
        return (
            self.url[:start] + named + (f":{port.lstrip(':')}" if port else "") + self.url[start + len(self._place) :]
        )

    def __str__(self) -> str:
        if self.is_file or self.scheme in ("http", "https", "s3"):
            return display_source(self.url)
        return f"{self.scheme}://{self._place}/..."

    def __repr__(self) -> str:
        return f"Address({self})"

    @property
    def _place(self) -> str:
        """Host and port as written. A password may hold what usually ends a host, so what follows the last @ counts."""
        rest = self.url.partition("://")[2].rpartition("@")[2]
        for end in "/?#":
            rest = rest.partition(end)[0]
        return rest


def check(address: Address, *, allow_private_hosts: bool) -> str:
    """The URL to connect to.  Raises UnsupportedSource where its scheme or host may not be used, NetworkError.

    Unless private hosts are allowed, the host is replaced by the public address that was checked.
    """
    if address.is_file:
        return address.url
    if address.scheme not in _PROTOCOLS and address.scheme not in ("http", "https", "srt"):
        raise UnsupportedSource(
            f"{address}: {address.scheme}:// is no stream that is read here; use rtsp, rtmp, srt, http(s) or a file"
        )
    name, port = address.host
    if not name:
        raise UnsupportedSource(f"{address}: it names no host")
    if allow_private_hosts or address.scheme in ("http", "https"):
        return address.url  # tasks/core/web.py checks each request and redirect itself
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)})
    except OSError as error:
        raise NetworkError(f"{address}: its host cannot be found ({error.strerror}); it is tried again") from None
    for one in found:
        if not is_public(one):
            raise UnsupportedSource(
                f"{address}: its host is private or local; allow such hosts with --private-hosts or "
                "REELFLOW_ALLOW_PRIVATE_HOSTS=true"
            )
    return address.at(found[0])


@contextmanager
def open_stream(
    address: Address, *, transport: str, allow_private_hosts: bool, open_s: float, read_s: float
) -> Iterator[tuple[Any, bool]]:
    """An opened PyAV container, and whether it has an end as a file has.

    Raises what `explained` makes of libav's errors; SourceNotFound and so on for files.
    """
    url = check(address, allow_private_hosts=allow_private_hosts)
    if address.is_file:
        from tasks.core.fetch import local_path

        with open_media(Path(local_path(url) if "://" in url else url)) as container:
            yield container, True
    elif address.scheme in ("http", "https"):
        with (
            _open_body(address, allow_private_hosts) as (body, finite),
            _opened(body, address, _BODY, 0, 0) as container,
        ):
            yield container, finite
    elif address.scheme == "srt":
        from tasks.core.live.relay import relayed

        with relayed(url, str(address)) as output, _opened(output, address, _RELAYED, 0, 0) as container:
            yield container, False
    else:
        options = {
            "protocol_whitelist": _PROTOCOLS[address.scheme],
            "format_whitelist": _FORMATS[address.scheme],
            # libav would look for a second and twenty frames before it gives the first one
            "fpsprobesize": "0",
            "analyzeduration": "500000",
            "probesize": "500000",
            "rw_timeout": str(round(read_s * 1e6)),
        }
        if address.scheme.startswith("rtsp"):
            options |= {"rtsp_transport": transport, "timeout": str(round(read_s * 1e6)), "buffer_size": str(4 * 2**20)}
            options |= {"max_delay": "500000", "reorder_queue_size": "500"} if transport == "udp" else {}
        with _opened(url, address, options, open_s, read_s) as container:
            yield container, False


_BODY = {"protocol_whitelist": "pipe", "format_whitelist": DEMUXERS}
_RELAYED = {"protocol_whitelist": "pipe", "format_whitelist": "mpegts", "analyzeduration": "500000"}


@contextmanager
def _opened(source: Any, address: Address, options: dict[str, str], open_s: float, read_s: float) -> Iterator[Any]:
    timeout = (open_s, read_s) if open_s else None
    try:
        container: Any = av.open(source, options=options, timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise explained(error, address) from None
    with container:
        yield container


class _Body:
    """What an HTTP server sends, as a file that can only be read on."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def read(self, size: int) -> bytes:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        given, self._left = self._left[:size], self._left[size:]
        return given


@contextmanager
def _open_body(address: Address, allow_private_hosts: bool) -> Iterator[tuple[_Body, bool]]:
    from tasks.core.web import open_http

    private = allow_private_hosts
    with open_http(address.url, {}, allow_private_hosts=private, deadline=math.inf, step_bytes=1) as remote:
        yield _Body(iter(remote.chunks or ())), remote.size is not None


def explained(error: BaseException, address: Address) -> ReelflowError:
    """What went wrong, in words of ours."""
    if isinstance(error, ReelflowError):
        return error
    number = getattr(error, "errno", None)
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return PermissionDenied(f"{address}: the server refuses access; check user and password")
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(f"{address}: the server has no such stream")
    if isinstance(error, av.error.ExitError | TimeoutError) or number in (errno.ETIMEDOUT, errno.EAGAIN):
        return Silent(f"{address}: nothing came in time")
    if isinstance(error, av.error.ProtocolNotFoundError):
        return UnsupportedSource(f"{address}: this build of libav does not speak {address.scheme}")
    if isinstance(error, av.error.InvalidDataError):
        return NotMedia(f"{address}: what comes is no stream of media")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return NetworkError(f"{address}: {reason}")


def is_final(error: ReelflowError, address: Address) -> bool:
    """Is another try of no use? A camera may be mended at any time, a file is what it is."""
    return isinstance(error, UnsupportedSource) or (address.is_file and isinstance(error, PermanentError))
