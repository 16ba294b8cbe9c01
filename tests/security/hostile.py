"""Servers that do what they like, on real sockets, and what talking to them costs this process."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Script = Callable[[socket.socket], None]
"""What a server does with one connection, from the first byte on. It ends when the connection does (OSError)."""

MIB = 2**20


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Port of a server on loopback that treats each connection so."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                script(tls.wrap_socket(connection, server_side=True) if tls else connection)

        def accept() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    connection, _ = listening.accept()
                    connection.settimeout(30)
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])
        ended.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def asked(connection: socket.socket) -> bytes:
    """The head of a request, read to its end."""
    head = b""
    while b"\r\n\r\n" not in head:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError
        head += got
    return head


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> Script:
    """Reads a request, and answers it as it is told."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    sent = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def script(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return script


def drip(data: bytes, pause_s: float, first: bytes = b"") -> Script:
    """`first` at once, then `data` again and again, with a pause after each."""

    def script(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(first)
        while True:
            connection.sendall(data)
            time.sleep(pause_s)

    return script


@dataclass
class Cost:
    """Of a block: seconds, those of this process' CPU, and MiB beyond what was in use before, at their highest."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    mib: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    cost = Cost()
    Path("/proc/self/clear_refs").write_text("5")
    before, started, cpu = _status("VmRSS"), time.monotonic(), time.process_time()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - started
        cost.cpu_s = time.process_time() - cpu
        cost.mib = (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
