"""Who may ask: the Host header, the token, and what the browser says about where a request comes from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_TOKEN: Final = 16
"""Characters of the shortest token: it is all that stands between the store and a network."""

MOST_HEAD_BYTES: Final = 16 * 1024
"""Of a request's address and all its headers together."""

OPEN_PATHS: Final = "/static/"
"""What the page that asks for a token needs; it holds nothing of the store."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of every answer that does not set its own."""

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_PAGES: Final = Path(__file__).parent / "pages"


def is_loopback(host: str) -> bool:
    """Does only this machine reach a server bound to `host`?"""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class Guard:
    """ASGI middleware in front of everything else."""

    def __init__(self, app: ASGIApp, *, host: str, token: str | None, names: Iterable[str] = ()) -> None:
        """`host` is what the server is bound to, `names` the names besides it that browsers reach it by.

        Raises ValueError for an address beyond loopback without a token of at least MIN_TOKEN characters.
        """
        if token is None and not is_loopback(host):
            raise ValueError(f"{host} is reached from other machines: a token is needed")
        if token is not None and len(token) < MIN_TOKEN:
            raise ValueError(f"a token of {len(token)} characters is guessed; give at least {MIN_TOKEN}")
        self._app = app
        self._local = is_loopback(host)
        self._names = {"localhost", host.lower(), *(name.lower() for name in names)}
        self._token = token.encode() if token else None
        digest = hashlib.sha256(self._token or b"").hexdigest()
        self._cookie = f"reelflow-{digest[:8]}"
        self._proof = hmac.digest(self._token or b"", b"reelflow explorer cookie", "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
        if size > MOST_HEAD_BYTES:
            return PlainTextResponse("The address and headers are too long.\n", 431, {"connection": "close"})
        headers = Headers(scope=scope)
        if not self._knows_host(headers.getlist("host")):
            return PlainTextResponse(
                "This address is not the explorer's own. Open it as localhost or by its IP address, or start it with "
                "the name that you use.\n",
                400,
            )
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("Another site asked for this.\n", 403)
        if self._token is None or scope["path"].startswith(OPEN_PATHS) or self._is_proven(headers):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if len(given) == 1 and hmac.compare_digest(given[0].encode(), self._token):
            return self._welcome(scope)
        page = (_PAGES / "token.html").read_text("utf-8")
        return HTMLResponse(page, 401, {"www-authenticate": "Bearer", "cache-control": "no-store"})

    def _knows_host(self, given: list[str]) -> bool:
        """A name that an attacker's DNS points here is none of ours; an address cannot be rebound."""
        match = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if match is None:
            return False
        host = match[1].strip("[]")
        address = _address(host)
        if host in self._names or address is None:
            return host in self._names
        return address.is_loopback or not self._local

    def _is_proven(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._token and hmac.compare_digest(bearer.strip().encode(), self._token):
            return True
        pairs = (pair.partition("=") for pair in headers.get("cookie", "").split(";"))
        given = [value.strip() for name, _, value in pairs if name.strip() == self._cookie]
        return any(hmac.compare_digest(value.encode(), self._proof.encode()) for value in given)

    def _welcome(self, scope: Scope) -> Response:
        """Sets the cookie and leaves the address with the token by script.

        A redirect would be part of the navigation that came from elsewhere (a link in a mail), and such a navigation
        carries no SameSite=Strict cookie.
        """
        page = (_PAGES / "enter.html").read_text("utf-8")
        answer = HTMLResponse(page, headers={"cache-control": "no-store"})
        secure = scope.get("scheme") == "https"
        answer.set_cookie(self._cookie, self._proof, path="/", httponly=True, samesite="strict", secure=secure)
        return answer


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
