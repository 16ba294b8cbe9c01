"""Sources at http(s) addresses, whose servers are hostile until the opposite is shown: slow, endless, lying, elsewhere.

What such a server can do here is bounded by the constants below. Credentials never leave: exceptions of httpx hold URLs
with their queries, so they are not chained.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urljoin

from tasks.core.addresses import is_public
from tasks.core.errors import (
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceNotFound,
    Throttled,
    UnsupportedSource,
)
from tasks.core.redaction import keep_quiet
from tasks.core.remote import Remote
from tasks.core.source_names import display_source
from tasks.core.watchdog import Watchdog

RESOLVE_S = 20.0
"""Longest wait for the addresses of one name."""
CONNECT_S = 10.0
ANSWER_S = 60.0
"""From the first look at the address to the last header, over all redirects, connections and TLS handshakes."""
STEP_BYTES, STEP_S = 2**20, 60.0
"""So many bytes of the body, or its end, are there at least every so many seconds."""
MOST_REDIRECTS = 5
MOST_LENGTH_DIGITS = 18


@contextmanager
def open_http(
    url: str,
    validator: dict[str, str],
    *,
    allow_private_hosts: bool,
    deadline: float,
    step_bytes: int | None = None,
) -> Iterator[Remote]:
    """GET, following at most 5 redirects, each to a public address only unless `allow_private_hosts`.

    The address that was checked is the one that is connected to, whatever the name resolves to a moment later; for that
    reason proxies are used only with `allow_private_hosts`.  From https no redirect leads back to http.  The bytes are
    those that were sent: what a server says it has compressed is refused.  `deadline` is a time.monotonic(): then, or
    when the server falls behind ANSWER_S, or `step_bytes` (default STEP_BYTES) of the body in STEP_S, the connection is
    closed, whatever is waited for.  A live stream comes at its own pace: 1 for it.
    """
    import httpx

    keep_quiet()
    shown = display_source(url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "reelflow"}
    if "etag" in validator:
        headers["If-None-Match"] = validator["etag"]
    elif "last_modified" in validator:
        headers["If-Modified-Since"] = validator["last_modified"]
    timeout = httpx.Timeout(STEP_S, connect=CONNECT_S)
    with Watchdog(min(deadline, time.monotonic() + ANSWER_S)) as watchdog:
        try:
            with httpx.Client(timeout=timeout, verify=_tls(), trust_env=allow_private_hosts) as client:
                for _ in range(MOST_REDIRECTS + 1):
                    request = _request(client, url, headers, allow_private_hosts, watchdog)
                    response = client.send(request, stream=True)
                    try:
                        if response.has_redirect_location:
                            url = _redirected(url, response.headers["location"])
                            continue
                        yield _answer(response, validator, shown, _Pace(deadline, step_bytes or STEP_BYTES, watchdog))
                        return
                    finally:
                        response.close()
            raise UnsupportedSource(f"{shown}: more than {MOST_REDIRECTS} redirects")
        except httpx.HTTPError as error:
            if watchdog.fired:
                raise _too_slow(shown) from None
            raise NetworkError(f"{shown}: {type(error).__name__} while reading it; it is tried again") from None
        except (socket.gaierror, TimeoutError, ConnectionError) as error:
            reason = error.strerror or "no answer"
            raise NetworkError(f"{shown}: its host cannot be reached ({reason}); it is tried again") from None
        except UnicodeError:
            raise UnsupportedSource(f"{shown}: its host has no name that can be looked up") from None


def _redirected(url: str, location: str) -> str:
    try:
        found = urljoin(url, location)
    except ValueError:
        raise UnsupportedSource(f"{display_source(url)}: it redirects to no valid address") from None
    if url.lower().startswith("https:") and not found.lower().startswith("https:"):
        raise UnsupportedSource(
            f"{display_source(url)}: it redirects to {display_source(found)}, which anyone on the way can read and "
            "change; give an https:// address that stays one"
        )
    return found


def _request(client: Any, url: str, headers: dict[str, str], allow_private_hosts: bool, watchdog: Watchdog) -> Any:
    import httpx

    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise UnsupportedSource(f"{display_source(url)}: it is no http(s) address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise UnsupportedSource(f"{display_source(url)}: it is no http(s) address")
    extensions: dict[str, Any] = {"trace": functools.partial(_connected, watchdog)}
    if not allow_private_hosts:
        address = _public_address(target.host, target.port or (443 if target.scheme == "https" else 80))
        headers = {**headers, "Host": target.netloc.decode("ascii")}
        extensions["sni_hostname"] = target.raw_host.decode("ascii")
        target = target.copy_with(host=address)
    return client.build_request("GET", target, headers=headers, extensions=extensions)


def _connected(watchdog: Watchdog, event: str, info: dict[str, Any]) -> None:
    """httpcore's trace: the TCP connection, before anything is sent over it."""
    if event.endswith("connect_tcp.complete"):
        watchdog.watch(info["return_value"].get_extra_info("socket"))


def _public_address(host: str, port: int) -> str:
    found = _resolve(host, port)
    for address in found:
        if not is_public(address):
            raise UnsupportedSource(
                f"{host} is {address}, a private or local address; such hosts are refused unless allowed"
            )
    return found[0]


def _resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, IPv4 first.  The system's resolver cannot be interrupted, but need not be waited for."""
    found: list[str] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            found.extend({str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError) as error:
            failed.append(error)

    asking = threading.Thread(target=ask, name="reelflow-resolve", daemon=True)
    asking.start()
    asking.join(RESOLVE_S)
    if failed:
        raise failed[0]
    if asking.is_alive() or not found:
        raise TimeoutError
    return sorted(found, key=lambda address: ":" in address)


class _Pace(NamedTuple):
    """At which a body has to come."""

    deadline: float
    step_bytes: int
    watchdog: Watchdog


def _answer(response: Any, validator: dict[str, str], shown: str, pace: _Pace) -> Remote:
    status = response.status_code
    if status == 304 and validator:
        return Remote(validator, None, None)
    if status in (404, 410):
        raise SourceNotFound(f"{shown}: the server has no such file ({status})")
    if status in (401, 403, 407):
        raise PermissionDenied(f"{shown}: the server refuses access ({status}); a signed link may have expired")
    if status == 429:
        raise Throttled(f"{shown}: the server asks to slow down ({status})")
    if status in (408, 425) or status >= 500:
        raise NetworkError(f"{shown}: the server failed ({status}); it is tried again")
    if status != 200:
        raise UnsupportedSource(f"{shown}: the server answered {status}")
    codings = {coding.lower() for coding in response.headers.get_list("content-encoding", split_commas=True)}
    if codings - {"", "identity"}:
        raise UnsupportedSource(
            f"{shown}: the server sends it compressed (Content-Encoding), though it was asked not to; give an address "
            "that sends the file as it is"
        )
    found: dict[str, str] = {}
    etag, modified = response.headers.get("etag", ""), response.headers.get("last-modified", "")
    if etag and not etag.startswith("W/"):
        found["etag"] = etag
    elif modified:
        found["last_modified"] = modified
    length = response.headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdigit() and len(length) <= MOST_LENGTH_DIGITS else None
    return Remote(found, size, _body(response.iter_raw(), shown, pace))


def _body(chunks: Iterator[bytes], shown: str, pace: _Pace) -> Iterator[bytes]:
    """The chunks as they arrive, as long as they come at the least pace."""
    step = pace.step_bytes
    for chunk in chunks:
        step += len(chunk)
        if step >= pace.step_bytes:
            pace.watchdog.wait_until(min(pace.deadline, time.monotonic() + STEP_S))
            step = 0
        yield chunk
    if pace.watchdog.fired:  # a body without a length would seem to be whole
        raise _too_slow(shown)


def _too_slow(shown: str) -> ReelflowError:
    return NetworkError(f"{shown}: it comes too slowly, so the connection was closed; it is tried again")


@functools.cache
def _tls() -> ssl.SSLContext:
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
