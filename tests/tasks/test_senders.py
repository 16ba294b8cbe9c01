"""Targets over real sockets: a mail server, a webhook that is gone, and what the environment does not hold."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.rules import Target
from tasks.core.errors import SetupError
from tasks.senders import send

ALERT = Alert(
    id="a" * 32,
    rule="back door",
    rule_digest="d" * 32,
    camera="yard",
    visit="v" * 16,
    kind="visit",
    start=1_795_269_900.25,
    time=1_795_269_901.25,
    classes=("person",),
    why="person in the zone",
    window="w",
    source="s3://bucket/camera=yard/w.mp4",
    media_id="m" * 32,
    media_time=7.0,
)
KEY = "k" * 32


class Mail(socketserver.StreamRequestHandler):
    """As much of an SMTP server as takes one message."""

    received: list[str]
    refuses = False

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA" and not self.refuses:
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.decode())
                self.received.append("".join(lines))
            self.wfile.write(b"550 no\r\n" if self.refuses and word == b"RCPT" else b"250 OK\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def mail() -> Iterator[tuple[int, type[Mail]]]:
    class Here(Mail):
        received: list[str] = []  # noqa: RUF012 - one for each test

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Here) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], Here
        server.shutdown()


def _mailto(port: int) -> Target:
    return Target(url=f"mailto://127.0.0.1:{port}?from=cam@example.org&to=guard@example.org&mode=insecure&format=text")


def test_mail(mail: tuple[int, type[Mail]], monkeypatch: pytest.MonkeyPatch) -> None:
    port, server = mail
    assert send(_mailto(port), ALERT, "Europe/Berlin", KEY, 1, False) == ("sent", "")
    [message] = server.received
    assert "back door (yard)" in message
    assert "2026-11-21 15:05:01 CET" in message
    assert "w.mp4#t=3D2,12" in message or "w.mp4#t=2,12" in message
    send(_mailto(port), ALERT, "UTC", KEY, 2, True)
    assert "Sent again" in server.received[1]


def test_mail_that_is_refused_may_have_arrived_as_far_as_apprise_tells(mail: tuple[int, type[Mail]]) -> None:
    port, server = mail
    server.refuses = True
    assert send(_mailto(port), ALERT, "UTC", KEY, 1, False)[0] == "unknown"
    assert server.received == []


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (Target(webhook="http://127.0.0.1:1/"), "unreachable"),
        (Target(webhook="http://127.0.0.1:bad/"), "refused"),
        (Target(url="nosuch://service"), "refused"),
    ],
)
def test_what_cannot_be_reached(target: Target, outcome: str) -> None:
    assert send(target, ALERT, "UTC", KEY, 1, False)[0] == outcome


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(SetupError, match="env:NOT_THERE"):
        send(Target(webhook="env:NOT_THERE"), ALERT, "UTC", KEY, 1, False)
