"""Messages over HTTP: POST /sms as Twilio calls, POST /messages signed as our own webhooks are, and pages by link.

A page's address carries a key that is good for it alone, for a week. Behind a proxy that speaks TLS, `public_url` says
what it is called from outside: Twilio signs that address, and links begin with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flows.messages.desk import MessageDesk, Reply
from flows.web_server import MIN_TOKEN, AppServer, BodyRefused, read_body
from tasks.core.errors import SetupError
from tasks.core.messages import twilio
from tasks.core.messages.signed import is_signed, may_read, page_key

MOST_BYTES: Final = 64 * 1024
GOOD_S: Final = 7 * 86400
"""Of a link."""

HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
}
PLAIN: Final = HEADERS | {"content-security-policy": "default-src 'none'"}
STATUS: Final = {"done": 200, "waiting": 202, "failed": 503, "busy": 503, "gone": 404}

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class Keys:
    """What callers prove themselves with."""

    def __init__(self, token: str | None, twilio_token: str | None, senders: frozenset[str]) -> None:
        """Raises SetupError where nobody could send anything, or a token is short."""
        for name, value in (("REELFLOW_MESSAGES_TOKEN", token), ("REELFLOW_TWILIO_AUTH_TOKEN", twilio_token)):
            if value is not None and len(value) < MIN_TOKEN:
                raise SetupError(f"{name} has {len(value)} characters; give it at least {MIN_TOKEN}.")
        if not (token or twilio_token):
            raise SetupError(
                "Nobody could send a message: set REELFLOW_MESSAGES_TOKEN for signed calls, REELFLOW_TWILIO_AUTH_TOKEN "
                "for SMS."
            )
        if twilio_token and not senders:
            raise SetupError("Nobody may send an SMS: name their numbers as `senders` in the file of rooms.")
        self.token, self.twilio, self.senders = token, twilio_token, senders
        self.pages = token or twilio_token or ""


class MessageServer(AppServer):
    """Serves in a thread of its own."""

    def __init__(self, where: str, desk: MessageDesk, keys: Keys, public_url: str | None = None) -> None:
        """`where` is HOST:PORT, port 0 for a free one. Raises SetupError where it cannot be had."""
        super().__init__(where, Starlette(routes=self._routes(desk, keys)), "message server")
        self.url = (public_url or self.address).rstrip("/")

    def _routes(self, desk: MessageDesk, keys: Keys) -> list[Route]:
        link = partial(self._link, keys.pages)
        routes = [
            Route("/health", lambda _: JSONResponse({"healthy": True})),
            Route("/reports/{page}/{until:int}/{key}", partial(_page, desk, keys)),
        ]
        if keys.twilio:
            sms = partial(_sms, desk, keys.twilio, keys.senders, lambda: self.url, link)
            routes.append(Route("/sms", sms, methods=["POST"]))
        if keys.token:
            routes.append(Route("/messages", partial(_message, desk, keys.token, link), methods=["POST"]))
        return routes

    def _link(self, secret: str, page: str) -> str:
        until = int(time.time()) + GOOD_S
        return f"{self.url}/reports/{page}/{until}/{page_key(secret, page, until)}"


Link = Callable[[str], str]


async def _sms(
    desk: MessageDesk, token: str, senders: frozenset[str], url: Callable[[], str], link: Link, request: Request
) -> Response:
    try:
        body = await read_body(request, MOST_BYTES)
    except BodyRefused as refused:
        return PlainTextResponse(refused.said, refused.status, PLAIN)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200)
    except (UnicodeDecodeError, ValueError):
        return PlainTextResponse("No form.\n", 400, PLAIN)
    called = url() + request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if not twilio.is_signed(token, called, fields, request.headers.get("x-twilio-signature", "")):
        return PlainTextResponse("The signature does not fit.\n", 403, PLAIN)
    form = dict(fields)
    sender, message = form.get("From", ""), form.get("MessageSid", "")
    if sender not in senders:
        return PlainTextResponse("Who sent this is not in the book.\n", 403, PLAIN)
    if not _ID.fullmatch(message):
        return PlainTextResponse("It has no MessageSid.\n", 400, PLAIN)
    reply = await _take(desk, form.get("Body", ""), f"sms:{message}", f"...{sender[-4:]}")
    return Response(twilio.answer(_with_link(reply, link)), media_type="text/xml", headers=PLAIN)


async def _message(desk: MessageDesk, token: str, link: Link, request: Request) -> Response:
    try:
        body = await read_body(request, MOST_BYTES)
    except BodyRefused as refused:
        return PlainTextResponse(refused.said, refused.status, PLAIN)
    signature = request.headers.get("reelflow-signature", "")
    if not is_signed(token, body, signature, time.time()):
        return PlainTextResponse("Reelflow-Signature does not fit, or is old.\n", 403, PLAIN)
    try:
        found: Any = json.loads(body)
        text, by = found["text"], found.get("from", "webhook")
        message = found.get("id", hashlib.sha256(signature.encode()).hexdigest())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        text = by = message = None
    if not (isinstance(text, str) and isinstance(by, str) and isinstance(message, str) and _ID.fullmatch(message)):
        said = 'Send {"text": "status", "id": "unique", "from": "who"} as JSON.\n'
        return PlainTextResponse(said, 400, PLAIN)
    shown = "".join(c for c in by[:60] if c.isprintable())
    reply = await _take(desk, text, f"call:{message}", shown)
    status = STATUS[reply.state]
    content = {"text": reply.text, "state": reply.state, "page": link(reply.page) if reply.page else None}
    return JSONResponse(content, status, PLAIN | ({"retry-after": "5"} if status == 503 else {}))


async def _take(desk: MessageDesk, text: str, message: str, by: str) -> Reply:
    limit = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(desk.take, text, message, by, limiter=limit)


async def _page(desk: MessageDesk, keys: Keys, request: Request) -> Response:
    page, until = request.path_params["page"], request.path_params["until"]
    if not re.fullmatch(r"[0-9a-f]{32}", page) or not may_read(
        keys.pages, page, until, request.path_params["key"], time.time()
    ):
        return PlainTextResponse("This link is not good, or no longer; ask again for a new one.\n", 403, PLAIN)
    state, found = await anyio.to_thread.run_sync(desk.page, page)
    if state == "done" and found is not None:
        return HTMLResponse(found, headers=HEADERS)  # it has a policy of its own
    if state == "waiting":
        text = "<!doctype html><title>Reelflow</title><p>The report is being made. This page looks again by itself."
        return HTMLResponse(text, STATUS[state], PLAIN | {"refresh": "2"})
    text = escape(found or "There is no such report, or no longer; ask again.")
    return HTMLResponse(f"<!doctype html><title>Reelflow</title><p>{text}", STATUS[state], PLAIN)


def _with_link(reply: Reply, link: Link) -> str:
    """The answer as a text message; the link is never cut."""
    if not reply.page:
        return reply.text
    address = link(reply.page)
    most = twilio.MOST_LETTERS - len(address) - 1
    short = reply.text if len(reply.text) <= most else f"{reply.text[: most - 3]}..."
    return f"{short}\n{address}"
