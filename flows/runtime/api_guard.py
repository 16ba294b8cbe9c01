"""In front of a Prefect server: only its own names in Host, no request of another site's page, a page to sign in.

Prefect asks for the auth string and nothing else. A page whose name was pointed at this server, or that opens a
WebSocket to it, comes from elsewhere: the browser says so in Host or Origin.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")
"""Names by which a browser of this host reaches a server that listens on loopback."""

SIGN_IN = "/sign-in"

_SCRIPT = (
    "localStorage.setItem('prefect-password', btoa(decodeURIComponent(location.hash.slice(1)))); location.replace('/');"
)
_SCRIPT_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_PAGE = HTMLResponse(
    f"<!doctype html><title>Prefect</title><script>{_SCRIPT}</script>",
    headers={
        "cache-control": "no-store",
        "content-security-policy": f"default-src 'none'; script-src 'sha256-{_SCRIPT_DIGEST}'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
    },
)


def sign_in_link(server: str, auth: str) -> str:
    """Address that opens Prefect's pages with the auth string: behind `#`, which browsers send to nobody."""
    return f"{server}{SIGN_IN}#{quote(auth, safe=':')}"


def is_ours(hosts: list[str], origins: list[str], names: Iterable[str]) -> bool:
    """Was a request with these Host and Origin headers sent to one of our names, and by no other site's page?"""
    if len(hosts) != 1 or hosts[0].lower().partition(":")[0] not in names:
        return False
    return all(origin.lower().partition("://")[2] == hosts[0].lower() for origin in origins)


class Guard:
    """ASGI middleware that lets in what `is_ours`."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if is_ours(headers.getlist("host"), headers.getlist("origin"), self._names):
            answer = _PAGE if scope["path"] == SIGN_IN else self._app
            await answer(scope, receive, send)
        elif scope["type"] == "http":
            refusal = PlainTextResponse("Another site asked for this, or asked for another site.\n", 403)
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})
