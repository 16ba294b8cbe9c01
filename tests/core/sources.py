"""Sources for tests of fetching: files and a web site with known content."""

from __future__ import annotations

import hashlib
import os
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from tasks.core.fetch import Fetched, fetch
from tasks.core.options import LimitOptions

CONTENT = b"some media" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def get(source: str | Path, cache: Path, max_bytes: int = 2**20, cache_bytes: int = 2**20, **kw: Any) -> Fetched:
    return fetch(str(source), cache, LimitOptions(max_bytes=max_bytes), cache_bytes, **kw)


def old(path: Path, content: bytes = CONTENT) -> Path:
    """A file that has not changed for a minute."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)
    return path


class Site(BaseHTTPRequestHandler):
    """Answers by path; `asked` collects the requests."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append((path, self.headers.get("If-None-Match")))
        if path.isdecimal() or path[1:].isdecimal():
            self.answer(int(path[1:]), b"no")
        elif path == "/loop":
            self.answer(302, b"", Location="/loop")
        elif path == "/hop":
            self.answer(302, b"", Location="/video.mp4?token=secret")
        elif path == "/away":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif path == "/short":
            self.answer(200, CONTENT, **{"Content-Length": str(2 * len(CONTENT))})
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(CONTENT)
            except OSError:
                self.close_connection = True
        elif path == "/empty":
            self.answer(200, b"")
        elif self.headers.get("If-None-Match") == '"v1"':
            self.answer(304, b"", ETag='"v1"')
        else:
            self.answer(200, CONTENT, ETag='"v1"')

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
