"""An HTTP proxy in front of an S3 endpoint that fails now and then, as networks and servers do.

`with FaultProxy(upstream, Faults.evenly(0.1)) as proxy:` in a test; as a process of its own:

    python -m tests.fault_proxy --upstream http://127.0.0.1:5000 --port 5001 --rate 0.1 --stall 5 --seed 1

It answers `GET /-/counts` itself, with what it has done so far, and prints the same when it is told to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import urlsplit

COUNTS = "/-/counts"
CHUNK_BYTES = 64 * 2**10
UPSTREAM_TIMEOUT_S = 60.0
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade", "proxy-connection"}
_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'

RESETS = ("reset before", "reset after", "reset within", "end within")
"""A reset before the request is passed on; after it was done, so that the answer is lost; and within the answer, where
the client loses what it has not read yet too. "end within" closes the connection half through the answer (FIN), so that
the client reads that half and no more."""


@dataclass(frozen=True)
class Faults:
    """Shares of all requests, 0 to 1 each."""

    internal_error: float = 0.0
    """Answered 500 InternalError, not passed on."""
    slow_down: float = 0.0
    """Answered 503 SlowDown, not passed on."""
    reset: float = 0.0
    """Connection lost, in one of the ways of RESETS."""
    stall: float = 0.0
    """Passed on after `stall_s`."""
    stall_s: float = 5.0

    @classmethod
    def evenly(cls, rate: float, stall_s: float = 5.0) -> Faults:
        """One rate, divided among the four kinds."""
        return cls(rate / 4, rate / 4, rate / 4, rate / 4, stall_s)


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    """With lower-case names."""


class FaultProxy:
    """Listens on loopback from `start` (or entering it) to `stop`; `faults` may be replaced while it runs.

    `answer`, where given, is asked first: (status, S3 error code, message), or None to go on. `record` keeps every
    request in `seen`.
    """

    def __init__(
        self,
        upstream: str,
        faults: Faults = Faults(),
        *,
        seed: int = 0,
        port: int = 0,
        record: bool = False,
        answer: Callable[[Seen], tuple[int, str, str] | None] | None = None,
    ) -> None:
        parts = urlsplit(upstream)
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self.record = record
        self.answer = answer
        self.seen: list[Seen] = []
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault-proxy", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def draw(self, request: Seen) -> str:
        """What happens to this request, one of the kinds of Faults and RESETS, or "" for nothing."""
        with self._lock:
            kind = self._choose()
            self.counts["requests"] += 1
            self.counts[request.method] += 1
            if kind:
                self.counts[kind] += 1
            if self.record:
                self.seen.append(request)
        return kind

    def _choose(self) -> str:
        drawn, faults = self._random.random(), self.faults
        shares = {"500": faults.internal_error, "503": faults.slow_down, "reset": faults.reset, "stall": faults.stall}
        for kind, share in shares.items():
            if drawn < share:
                return self._random.choice(RESETS) if kind == "reset" else kind
            drawn -= share
        return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the game; anything else is a bug of this file."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _upstream: http.client.HTTPConnection | None = None

    def _serve(self) -> None:
        body = b"".join(self._body())
        if self.path == COUNTS:
            self._send(200, json.dumps(self.server.proxy.counts).encode(), "application/json")
            return
        proxy = self.server.proxy
        request = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        kind = proxy.draw(request)
        if proxy.answer and (canned := proxy.answer(request)):
            self._error(*canned)
        elif kind == "500":
            self._error(500, "InternalError", "We encountered an internal error. Please try again.")
        elif kind == "503":
            self._error(503, "SlowDown", "Please reduce your request rate.")
        elif kind == "reset before":
            self._reset()
        else:
            if kind == "stall":
                time.sleep(proxy.faults.stall_s)
            self._pass_on(body, kind)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        elif length := int(self.headers.get("Content-Length") or 0):
            yield self.rfile.read(length)

    def _pass_on(self, body: bytes, kind: str) -> None:
        answer = self._ask(body)
        if kind == "reset after":
            answer.read()
            self._reset()
        length = answer.getheader("Content-Length")
        whole = answer.read() if length is None else None
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP and name.lower() != "content-length":
                self.send_header(name, value)
        has_body = answer.status not in (204, 304)
        if has_body:
            self.send_header("Content-Length", str(length if whole is None else len(whole)))
        self.end_headers()
        if self.command == "HEAD" or not has_body or length == "0":
            answer.read()  # else a connection that the server keeps would take no other request
            self._break_off(kind)
            return
        left = int(length or 0)
        until = left // 2 if kind.endswith("within") else 0
        if whole is not None:
            self.wfile.write(whole)
        while left > until and (chunk := answer.read(min(CHUNK_BYTES, left - until))):
            self.wfile.write(chunk)
            left -= len(chunk)
        self._break_off(kind)

    def _break_off(self, kind: str) -> None:
        if kind == "reset within":
            self._reset()
        elif kind == "end within":
            self._hang_up()
            self.close_connection = True

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        """One request upstream, on a connection that is kept for as long as the client keeps its own."""
        for attempt in range(2):
            fresh = self._upstream is None
            if self._upstream is None:
                proxy = self.server.proxy
                self._upstream = http.client.HTTPConnection(proxy.host, proxy.port, timeout=UPSTREAM_TIMEOUT_S)
            try:
                self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP and name.lower() != "content-length":
                        self._upstream.putheader(name, value)
                self._upstream.putheader("Content-Length", str(len(body)))
                self._upstream.endheaders(body or None)
                answer = self._upstream.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self._hang_up()
                if fresh or attempt:
                    raise
                continue
            if answer.will_close:
                self._upstream = None
            return answer
        raise AssertionError("unreachable")

    def _hang_up(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def finish(self) -> None:
        self._hang_up()
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def _error(self, status: int, code: str, message: str) -> None:
        self._send(status, _ERROR.format(code, message).encode(), "application/xml")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> NoReturn:
        """Closes with RST, so that the client loses what it has not read yet; ends the connection's thread."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.close()
        self.rfile.close()
        self.connection.close()
        raise ConnectionResetError

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_proxy", description="A failing proxy in front of S3")
    parser.add_argument("--upstream", required=True, help="address of the S3 endpoint, http://host:port")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; default: a free one")
    parser.add_argument("--rate", type=float, default=0.1, help="share of requests that fail, in equal parts by kind")
    parser.add_argument("--stall", type=float, default=5.0, help="seconds that a stalled request waits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    proxy = FaultProxy(given.upstream, Faults.evenly(given.rate, given.stall), seed=given.seed, port=given.port)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with proxy:
        print(proxy.url, flush=True)
        stopped.wait()
    print(json.dumps(proxy.counts), flush=True)


if __name__ == "__main__":
    main()
