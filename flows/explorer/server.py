"""Serves the explorer with uvicorn until it is stopped."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from flows.cli import console
from flows.explorer.api import Find
from flows.explorer.app import create_app
from flows.explorer.guard import MOST_HEAD_BYTES, is_loopback
from tasks.core.errors import SetupError
from tasks.store import open_store

PORT: Final = 8710
TOKEN_BYTES: Final = 24
MOST_WAITING: Final = 128
"""Connections that the system keeps until they are taken."""
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound to


def serve(
    store: str,
    find: Find,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    names: Iterable[str] = (),
    say: Callable[[str], None] = console.say,
) -> None:
    """Serves the store at this address, and says where once it listens.

    `find` answers a query, see tasks.core.search. Port 0 takes a free one. An address that other machines reach gets a
    token, a random one where none is given; `names` are the host names that they may use. Raises SetupError where the
    address cannot be had or the token is too short.
    """
    import uvicorn

    from flows.explorer.connections import Connection

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        app = create_app(open_store(store), find, host=host, token=token, names=names, runs_url=_prefect_ui())
    except ValueError as error:
        raise SetupError(f"The explorer does not start: {error}.") from None
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # an address may hold the token
        proxy_headers=False,
        server_header=False,
        http=Connection,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ws="none",
        backlog=MOST_WAITING,
        timeout_graceful_shutdown=3,
    )
    say(f"Explorer of {store}: {address(host, listening.getsockname()[1], token)}  (Ctrl+C ends it)")
    if token is not None and not is_loopback(host):
        say("The token and all that is shown travel unencrypted; put a TLS proxy or an SSH tunnel in front.")
    with listening, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    shown = socket.gethostname() if host in _ANY else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(where)
            made.listen(MOST_WAITING)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise SetupError(
            f"The explorer cannot listen at {host} port {port} ({error.strerror}); choose another --port, 0 for a free "
            "one, or another --host."
        ) from None
    return made


def _prefect_ui() -> str | None:
    """Address of the Prefect UI of this profile, None where there is no server."""
    from prefect.settings import PREFECT_UI_URL

    return PREFECT_UI_URL.value() or None
