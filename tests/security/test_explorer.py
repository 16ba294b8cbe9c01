"""Attacks on the explorer by whoever reaches its port and has no token: it stays quick, small and reachable."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.source_tree import ROOT

HEAD_S, STALL_S = 3.0, 2.0
MOST_CONNECTIONS = 20
SLACK_S = 3.0
"""Of a machine that does other things as well."""

TOKEN = "a-long-enough-token"
SERVER = f"""
import sys
from flows.explorer import connections, serve
connections.HEAD_S, connections.STALL_S, connections.MOST_CONNECTIONS = {HEAD_S}, {STALL_S}, {MOST_CONNECTIONS}
serve(sys.argv[1], lambda query: [], port=0, token={TOKEN!r})
"""
GET = b"GET /api/media HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[tuple[int, int]]:
    """Port and process of an explorer with a token."""
    command = [sys.executable, "-c", SERVER, str(store)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found
        yield int(found[1]), process.pid
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture
def connect(server: tuple[int, int]) -> Iterator[Callable[[], socket.socket]]:
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", server[0]), timeout=20))


def _status(connection: socket.socket, sent: bytes) -> int:
    with suppress(ConnectionError):
        connection.sendall(sent)
    answer = connection.recv(65536)
    return int(answer.split()[1]) if answer else 0


def _cpu_s(server: tuple[int, int]) -> float:
    fields = Path(f"/proc/{server[1]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory_mib(server: tuple[int, int]) -> float:
    lines = Path(f"/proc/{server[1]}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _descriptors(server: tuple[int, int]) -> int:
    return len(list(Path(f"/proc/{server[1]}/fd").iterdir()))


def _closed_after(connection: socket.socket, drip: bytes = b"") -> float:
    """Seconds until the server ends the connection, whatever is sent to it meanwhile; at most 20."""
    started = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - started < 20:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - started


COOKIES = {
    "backslashes": (b'a="', b"\\\\", b'"'),
    "octals": (b'a="', b"\\012", b'"'),
    "quotes": (b'a="', b'\\"', b'"'),
    "semicolons": (b"", b";", b""),
    "spaces": (b"a", b" ", b"b"),
    "pairs": (b"", b"a=b; ", b""),
}
"""What a value begins with, repeats and ends with."""


@pytest.mark.parametrize("size", [58_000, 15_000])
@pytest.mark.parametrize("kind", COOKIES)
def test_a_large_cookie_costs_nothing(
    server: tuple[int, int], connect: Callable[[], socket.socket], kind: str, size: int
) -> None:
    """Above the limit of a head it is refused; below, it is looked through once."""
    first, again, last = COOKIES[kind]
    head = GET + b"Cookie: " + first + again * (size // len(again)) + last + b"\r\n\r\n"
    before = _cpu_s(server)
    assert _status(connect(), head) in ((401,) if size == 15_000 else (400, 431))
    assert _cpu_s(server) - before < 0.3


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-Long: " + b"a" * 60_000 + b"\r\n\r\n",
        GET + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /?token=" + b"&" * 60_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        GET + b"Authorization: Bearer " + b"a" * 60_000 + b"\r\n\r\n",
        GET + b"X-Endless: " + b"a" * 10_000_000,
    ],
    ids=["header", "headers", "path", "query", "bearer", "endless"],
)
def test_a_large_head_is_refused(server: tuple[int, int], connect: Callable[[], socket.socket], head: bytes) -> None:
    cpu, memory = _cpu_s(server), _memory_mib(server)
    assert _status(connect(), head) in (0, 400, 431)
    assert _cpu_s(server) - cpu < 0.5
    assert _memory_mib(server) - memory < 16


IDLE = {
    "silent": (b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\n", b""),
    "drips a head": (GET + b"X-Slow: ", b"a"),
    "keeps alive": (GET + b"\r\n", b""),
    "drips the next head": (GET + b"\r\n", b"G"),
    "drips a body": (GET + b"Content-Length: 1000000\r\n\r\n", b"a"),
    "drips chunks": (GET + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}


def test_who_does_not_ask_is_cut_off(connect: Callable[[], socket.socket]) -> None:
    """All kinds at once."""

    def stay(kind: str) -> float:
        connection = connect()
        connection.sendall(IDLE[kind][0])
        return _closed_after(connection, IDLE[kind][1])

    with ThreadPoolExecutor(len(IDLE)) as pool:
        seconds = dict(zip(IDLE, pool.map(stay, IDLE), strict=True))
    assert {kind: s for kind, s in seconds.items() if s > HEAD_S + SLACK_S} == {}


def test_who_does_not_read_is_cut_off(
    server: tuple[int, int], store: Path, connect: Callable[[], socket.socket]
) -> None:
    """A player that is paused for too long: more is to be sent than all buffers between the two take."""
    report = store / "media" / ("0" * 32) / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    os.truncate(report, 100_000_000)
    before = _descriptors(server)
    connection = connect()
    head = f"GET /api/media/{'0' * 32}/files/report.html HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}"
    connection.sendall(f"{head}\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    started = time.monotonic()
    while _descriptors(server) > before:
        assert time.monotonic() - started < HEAD_S + STALL_S + SLACK_S
        time.sleep(0.1)
    assert time.monotonic() - started > STALL_S


def test_many_half_open_connections_leave_room(server: tuple[int, int], connect: Callable[[], socket.socket]) -> None:
    for _ in range(10 * MOST_CONNECTIONS):
        connect()
    assert _status(connect(), GET + b"\r\n") == 401
    started = time.monotonic()
    while (opened := _descriptors(server)) > MOST_CONNECTIONS + 20:
        assert time.monotonic() - started < HEAD_S - 0.5, f"{opened} descriptors"


def test_no_web_socket_escapes_the_limits(connect: Callable[[], socket.socket]) -> None:
    head = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    assert _status(connect(), head + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n") == 401
