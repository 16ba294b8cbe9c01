"""A small server beside the watcher: /health for supervisors, /events for stores that call instead of queueing.

An event is answered with 204 once the runs of its objects exist. A call proves that it may by the token, as
`Authorization: Bearer TOKEN` (or the token alone, as MinIO can send it), or by a signature of the body:
`X-Hub-Signature-256: sha256=HMAC` with the token as key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flows.watch.receiver import Inbox
from flows.web_server import MIN_TOKEN, AppServer, BodyRefused, read_body
from tasks.core.errors import ReelflowError, SetupError
from tasks.core.events.notification import MOST_BYTES
from tasks.records.lookup import unexpected

WHO: Final = "webhook"


class WebServer(AppServer):
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
        if token is not None and len(token) < MIN_TOKEN:
            raise SetupError(f"REELFLOW_WATCH_TOKEN has {len(token)} characters; give it at least {MIN_TOKEN}.")
        super().__init__(where, create_app(inbox, token, health, context), "watcher")


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
        body = await read_body(request, MOST_BYTES)
    except BodyRefused as refused:
        return PlainTextResponse(refused.said, refused.status)
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
