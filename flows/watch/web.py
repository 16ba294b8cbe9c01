"""A small server beside the watcher: /health for supervisors, /events for stores that call instead of queueing.

An event is answered with 204 once the runs of its objects exist. A call proves that it may by the token, as
`Authorization: Bearer TOKEN` (or the token alone, as MinIO can send it), or by a signature of the body:
`X-Hub-Signature-256: sha256=HMAC` with the token as key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flows.watch.receiver import Inbox
from tasks.core.errors import ReelflowError, SetupError
from tasks.core.events.notification import MOST_BYTES
from tasks.lookup import unexpected

MIN_TOKEN: Final = 16
"""Characters of the shortest token."""

MOST_HEADER_BYTES: Final = 16 * 1024
MOST_CALLS: Final = 64
"""Connections at a time; more are answered 503."""

BODY_S: Final = 10.0
"""How long a body may take to come."""

WHO: Final = "webhook"


class WebServer:
    """Serves in a thread of its own."""

    def __init__(
        self,
        where: str,
        token: str | None,
        inbox: Inbox,
        health: Callable[[], tuple[bool, dict[str, Any]]],
        context: Context,
    ) -> None:
        """`where` is HOST:PORT, port 0 for a free one; without a token there is no /events.

        Raises SetupError where the address cannot be had or the token is short.
        """
        import uvicorn

        if token is not None and len(token) < MIN_TOKEN:
            raise SetupError(f"REELFLOW_WATCH_TOKEN has {len(token)} characters; give it at least {MIN_TOKEN}.")
        self._socket = _listen(where)
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(inbox, token, health, context),
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


def create_app(
    inbox: Inbox, token: str | None, health: Callable[[], tuple[bool, dict[str, Any]]], context: Context
) -> Starlette:
    """The application; `health` says whether all is well, and the figures."""

    def is_well(_: Request) -> Response:
        well, figures = health()
        return JSONResponse(figures, 200 if well else 503)

    routes = [Route("/health", is_well)]
    if token is not None:
        routes.append(Route("/events", partial(_events, inbox, token.encode(), context), methods=["POST"]))
    return Starlette(routes=routes)


async def _events(inbox: Inbox, token: bytes, context: Context, request: Request) -> Response:
    given = request.headers.get("authorization", "").encode()
    proven = hmac.compare_digest(given.removeprefix(b"Bearer ").strip(), token)
    signature = request.headers.get("x-hub-signature-256", "")
    if not proven and not signature:
        return PlainTextResponse("A token or a signature is needed.\n", 401, {"www-authenticate": "Bearer"})
    try:
        with anyio.fail_after(BODY_S):
            body = await _body(request)
    except (TimeoutError, ClientDisconnect):
        return PlainTextResponse("The body did not come in time.\n", 408)
    if body is None:
        return PlainTextResponse(f"At most {MOST_BYTES} bytes.\n", 413)
    if not proven and not hmac.compare_digest(signature.encode(), _signature(token, body)):
        return PlainTextResponse("Neither token nor signature fit.\n", 403)
    whole = _structured(request, body)
    return await anyio.to_thread.run_sync(context.copy().run, _accept, inbox, whole, datetime.now(UTC))


def _accept(inbox: Inbox, body: bytes, received: datetime) -> Response:
    try:
        found = inbox.accept(body, received)
        for reason, text in found.faults:
            inbox.bury(text, reason, WHO)
    except Exception as error:
        said = error.message if isinstance(error, ReelflowError) else unexpected(error).message
        inbox.desk.say.warning("An event was not taken, its sender is to call again: %s", said)
        return PlainTextResponse("Not now; call again.\n", 503, {"retry-after": "5"})
    if found.faults and not (found.events or found.tests or found.other):
        return PlainTextResponse(f"No event: {found.faults[0].reason}.\n", 400)
    return Response(status_code=204)


async def _body(request: Request) -> bytes | None:
    """The body; None where it is too long."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdigit() or int(stated) > MOST_BYTES:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _structured(request: Request, body: bytes) -> bytes:
    """A CloudEvent whose envelope is in headers, as one with its envelope in the body."""
    headers = request.headers
    if "ce-specversion" not in headers:
        return body
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return body
    names = ("specversion", "type", "source", "subject", "time", "id")
    return json.dumps({name: headers.get(f"ce-{name}") for name in names} | {"data": data}).encode()


def _signature(token: bytes, body: bytes) -> bytes:
    return b"sha256=" + hmac.digest(token, body, hashlib.sha256).hex().encode()


def _listen(where: str) -> socket.socket:
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
            f"The watcher cannot listen at {where} ({getattr(error, 'strerror', None) or error}); give --listen "
            "HOST:PORT, for example 127.0.0.1:8720."
        ) from None
    return made
