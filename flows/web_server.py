"""A small server beside work that runs for ever: bounded in bytes, headers, connections and time."""

from __future__ import annotations

import socket
import threading
from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from tasks.core.errors import SetupError

MIN_TOKEN: Final = 16
"""Characters of the shortest token."""

MOST_HEADER_BYTES: Final = 16 * 1024
MOST_CALLS: Final = 64
"""Connections at a time; more are answered 503."""

BODY_S: Final = 10.0
"""How long a body may take to come."""


class AppServer:
    """Serves an application in a thread of its own."""

    def __init__(self, where: str, app: ASGIApp, who: str) -> None:
        """`where` is HOST:PORT, port 0 for a free one; `who` listens there, for an error's text.

        Raises SetupError where the address cannot be had.
        """
        import uvicorn

        self._socket = _listen(where, who)
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",  # the one whose headers can be bounded
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
                limit_concurrency=MOST_CALLS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="reelflow-web", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


class BodyRefused(Exception):
    """A body that is not read; with the status of the answer."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The body. Raises BodyRefused where it is too long, or does not come in time."""
    try:
        with anyio.fail_after(BODY_S):
            body = await _body(request, most_bytes)
    except (TimeoutError, ClientDisconnect):
        raise BodyRefused(408, "The body did not come in time.\n") from None
    if body is None:
        raise BodyRefused(413, f"At most {most_bytes} bytes.\n")
    return body


async def _body(request: Request, most_bytes: int) -> bytes | None:
    """The body; None where it is too long."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdigit() or int(stated) > most_bytes:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


def _listen(where: str, who: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    try:
        if not host or not 0 <= int(port) <= 65535:
            raise ValueError("no HOST:PORT")
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen()
        except OSError:
            made.close()
            raise
    except (OSError, ValueError, OverflowError) as error:
        raise SetupError(
            f"The {who} cannot listen at {where} ({getattr(error, 'strerror', None) or error}); give --listen "
            "HOST:PORT, for example 127.0.0.1:8720."
        ) from None
    return made
