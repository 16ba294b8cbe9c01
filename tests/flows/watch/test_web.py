"""The server beside the watcher, over HTTP: who may call, how much, and that 2xx means that it is kept."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from contextvars import Context
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from flows.watch.receiver import Inbox
from flows.watch.web import WebServer
from flows.web_server import MOST_HEADER_BYTES
from tasks.core.errors import NetworkError, SetupError
from tasks.core.events.notification import MOST_BYTES, ObjectEvent
from tasks.store import Store, open_store

TOKEN = "a token that is long enough"
EVENT = {"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}


class Taker:
    """Takes events in the desk's place."""

    say = logging.getLogger("test")

    def __init__(self, root: Store) -> None:
        self.root = root
        self.taken: list[ObjectEvent] = []
        self.fails = False

    def count(self, what: str, number: int = 1) -> None:
        """Nobody asks."""

    def take_event(self, event: ObjectEvent, _: datetime) -> str:
        if self.fails:
            raise NetworkError("The API is away.")
        self.taken.append(event)
        return "taken"


class Web:
    def __init__(self, root: Path, token: str | None) -> None:
        self.desk = Taker(open_store(str(root)))
        self.well = True
        inbox = Inbox(cast(Any, self.desk))
        self.server = WebServer("127.0.0.1:0", token, inbox, lambda: (self.well, {"waiting": 0}), Context())
        self.server.start()

    def post(self, body: Any = EVENT, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.server.address}/events", content=content, headers=named, timeout=20)

    def letters(self) -> list[dict[str, Any]]:
        store = self.desk.root
        return [json.loads((store.read(path) or (b"",))[0]) for path in store.list("dead_letters")]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "store", TOKEN)
    yield made
    made.server.stop()


def test_an_event_is_taken_before_it_is_answered(web: Web) -> None:
    assert web.post(authorization=f"Bearer {TOKEN}").status_code == 204
    assert web.post(authorization=TOKEN).status_code == 204, "as MinIO sends what it was given"
    assert [event.uri for event in web.desk.taken] == ["s3://b/k"] * 2
    web.desk.fails = True
    answer = web.post(authorization=f"Bearer {TOKEN}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_signature_of_the_body_is_as_good(web: Web) -> None:
    body = json.dumps(EVENT).encode()
    good = "sha256=" + hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    assert web.post(body, x_hub_signature_256=good).status_code == 204
    assert web.post(body + b" ", x_hub_signature_256=good).status_code == 403
    assert web.post(body, x_hub_signature_256="sha256=" + "0" * 64).status_code == 403
    assert len(web.desk.taken) == 1


def test_who_proves_nothing_is_refused(web: Web) -> None:
    assert web.post().status_code == 401
    assert web.post(authorization="Bearer").status_code == 401
    assert web.post(authorization=f"Bearer {TOKEN}x").status_code == 401
    assert web.post(authorization=f"Bearer {TOKEN[:-1]}").status_code == 401
    assert httpx.get(f"{web.server.address}/events").status_code == 405
    assert web.desk.taken == []


def test_what_is_no_event_is_refused_and_kept(web: Web) -> None:
    answer = web.post(b"not JSON", authorization=TOKEN)
    assert (answer.status_code, "not JSON" in answer.text) == (400, True)
    half = {"Records": [*EVENT["Records"], {"eventName": "ObjectCreated:Put"}]}
    assert web.post(half, authorization=TOKEN).status_code == 204, "the good half is taken"
    assert [event.uri for event in web.desk.taken] == ["s3://b/k"]
    assert sorted(letter["reason"] for letter in web.letters()) == [
        "no notification of a store that is known",
        "not JSON",
    ]
    assert {letter["origin"] for letter in web.letters()} == {"webhook"}


def test_a_cloud_event_with_its_envelope_in_headers_is_read(web: Web) -> None:
    data = {"bucket": {"name": "b"}, "object": {"key": "k"}}
    kind = "com.amazonaws.s3.ObjectCreated:Put"
    answer = web.post(data, authorization=TOKEN, ce_specversion="1.0", ce_type=kind, ce_id="1")
    assert answer.status_code == 204
    assert web.desk.taken[0].origin == "cloudevents"


def test_bodies_and_headers_are_bounded(web: Web) -> None:
    assert web.post(b"x" * (MOST_BYTES + 1), authorization=TOKEN).status_code == 413

    def drip() -> Iterator[bytes]:
        for _ in range(2 * MOST_BYTES // 65536):
            yield b"x" * 65536

    chunked = httpx.post(f"{web.server.address}/events", content=drip(), headers={"authorization": TOKEN}, timeout=20)
    assert chunked.status_code == 413, "its length was never stated"
    host, port = web.server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 4 * MOST_HEADER_BYTES)
        assert b" 400 " in raw.recv(100)
    assert web.desk.taken == []


def test_health_says_how_it_is(web: Web) -> None:
    answer = httpx.get(f"{web.server.address}/health")
    assert (answer.status_code, answer.json()) == (200, {"waiting": 0})
    web.well = False
    assert httpx.get(f"{web.server.address}/health").status_code == 503


def test_without_a_token_there_is_only_health(tmp_path: Path) -> None:
    web = Web(tmp_path / "store", None)
    try:
        assert httpx.get(f"{web.server.address}/health").status_code == 200
        assert web.post(authorization="Bearer").status_code == 404
    finally:
        web.server.stop()


def test_what_cannot_be_served_is_said(web: Web, tmp_path: Path) -> None:
    inbox = Inbox(cast(Any, web.desk))
    with pytest.raises(SetupError, match="at least 16"):
        WebServer("127.0.0.1:0", "short", inbox, lambda: (True, {}), Context())
    for where in (web.server.address.removeprefix("http://"), "nonsense", "127.0.0.1:99999"):
        with pytest.raises(SetupError, match="cannot listen"):
            WebServer(where, None, inbox, lambda: (True, {}), Context())
