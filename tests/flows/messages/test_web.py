"""Messages over HTTP: who may send them, what comes back, and that a link shows its page when it is made."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as Xml

import httpx
import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from flows.messages.answers import Answers
from flows.messages.desk import MOST_WAITING, MessageDesk
from flows.messages.web import MOST_BYTES, Keys, MessageServer
from tasks.core.alerts.message import signature as signed
from tasks.core.errors import NetworkError, SetupError
from tasks.core.messages.book import read_book
from tasks.core.messages.twilio import signature
from tests.tasks.camera_day import CameraDay, make_day

TOKEN, AUTH, PHONE = "a token of the test", "an auth token of Twilio", "+4915112345678"
PUBLIC = "https://cameras.example.org/reelflow"
BOOK = """\
timezone: Europe/Berlin
recordings: {recordings}
senders: ["+4915112345678"]
rooms:
  Room 2: {{camera: gate, also: [lab]}}
"""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> CameraDay:
    return make_day(tmp_path_factory.mktemp("day"))


class Web:
    def __init__(self, day: CameraDay, patience_s: float = 60.0) -> None:
        self.day = day
        self.answers = Answers(day.store, read_book(BOOK.format(recordings=day.recordings)))
        self.desk = MessageDesk(self.answers, patience_s)
        self.keys = Keys(TOKEN, AUTH, frozenset([PHONE]))
        self.server = MessageServer("127.0.0.1:0", self.desk, self.keys, PUBLIC)
        self.server.start()

    def sms(self, text: str, sid: str = "SM1", sender: str = PHONE, **change: Any) -> httpx.Response:
        fields = [("Body", text), ("From", sender), ("MessageSid", sid), ("To", "+15005550006"), ("NumMedia", "0")]
        given = change.get("signature", signature(AUTH, f"{PUBLIC}/sms", fields))
        return httpx.post(
            f"{self.server.address}/sms",
            content=change.get("content", urlencode(fields).encode()),
            headers={"X-Twilio-Signature": given, "Content-Type": "application/x-www-form-urlencoded"},
            timeout=60,
        )

    def call(self, value: Any, **change: Any) -> httpx.Response:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        header = change.get("signature", signed(TOKEN, int(change.get("at", time.time())), body))
        where = f"{self.server.address}/messages"
        return httpx.post(where, content=body, headers={"Reelflow-Signature": header}, timeout=60)

    def get(self, link: str) -> httpx.Response:
        """What a proxy would ask here for a link."""
        assert link.startswith(f"{PUBLIC}/reports/")
        return httpx.get(self.server.address + link.removeprefix(PUBLIC), timeout=60)

    def stop(self) -> None:
        self.server.stop()
        self.desk.stop()


@pytest.fixture
def web(day: CameraDay) -> Iterator[Web]:
    made = Web(day)
    yield made
    made.stop()


def told(answer: httpx.Response) -> str:
    """The text that Twilio would send back."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/xml")
    [message] = Xml.fromstring(answer.text)
    return message.text or ""


def test_an_sms_makes_a_report_and_is_answered_with_its_link(web: Web) -> None:
    said, link = told(web.sms("Report 2026-10-25")).split("\n")
    assert said.startswith("gate, yard, Sunday 2026-10-25, 25 hours, Europe/Berlin: 10 visits, 6 alerts,")
    shown = web.get(link)
    assert shown.status_code == 200
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert '<h1 dir="auto">gate, yard</h1>' in shown.text
    again = web.call({"text": "report 2026-10-25"}).json()
    assert again["page"].split("/")[-3] == link.split("/")[-3], "the same report has the same page"


def test_a_link_is_good_for_its_page_alone(web: Web) -> None:
    link = web.call({"text": "report 2026-10-25 yard"}).json()["page"]
    *_, page, until, key = link.split("/")
    where = f"{PUBLIC}/reports"
    assert web.get(link).status_code == 200
    for bad in (
        f"{where}/{page}/{int(until) + 1}/{key}",
        f"{where}/{page}/{until}/{'0' * 32}",
        f"{where}/{'0' * 32}/{until}/{key}",
        f"{where}/..%2F..%2Fmedia/{until}/{key}",
    ):
        assert web.get(bad).status_code in (403, 404), bad
    assert httpx.get(f"{web.server.address}/reports/{page}").status_code == 404


def test_a_report_that_takes_longer_is_shown_when_it_is_made(day: CameraDay) -> None:
    web = Web(day, patience_s=0.2)
    gate, report = threading.Event(), web.answers._report

    def slow(*asked: Any) -> Any:
        gate.wait(60)
        return report(*asked)

    web.answers._report = slow
    try:
        said, link = told(web.sms("report 2026-10-25 gate", "SM2")).split("\n")
        assert said == "It is being made."
        waiting = web.get(link)
        assert (waiting.status_code, waiting.headers["refresh"]) == (202, "2")
        answer = web.call({"text": "report 2026-10-25 gate", "id": "other"})
        assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
        gate.set()
        deadline = time.monotonic() + 60
        while (shown := web.get(link)).status_code == 202 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert '<h1 dir="auto">gate</h1>' in shown.text
    finally:
        gate.set()
        web.stop()


def test_a_room_that_was_cleaned_is_marked_once(web: Web) -> None:
    first = told(web.sms("clean room 2", "SMc1"))
    assert first.startswith("Marked as cleaned, ")
    assert "Before: Room 2: " in first
    assert told(web.sms("clean room 2", "SMc1")) == first
    afresh = Web(web.day)  # a server that has been started anew remembers nothing but what is stored
    try:
        assert told(afresh.sms("clean room 2", "SMc1")) == first
        assert told(afresh.sms("lab is clean", "SMc2")) != first
    finally:
        afresh.stop()
    [path] = web.day.store.list("rooms")
    marks = json.loads((web.day.store.read(path) or (b"",))[0])["marks"]
    assert [each["id"] for each in marks] == ["sms:SMc1", "sms:SMc2"]
    assert marks[0]["by"] == "...5678", "a number is no more than its end"


def test_the_cleaning_report_has_a_page(web: Web) -> None:
    said, link = told(web.sms("cleaning", "SM4")).rsplit("\n", 1)
    assert said.startswith("Room 2: ")
    assert "rooms visited since they were cleaned" in web.get(link).text


def test_status_and_help(web: Web) -> None:
    said = told(web.sms("status", "SM5"))
    assert "gate: followed until Mon 26 Oct 00:00" in said or "gate: followed until" in said
    assert "yard: " in said
    assert "0 alerts today" in said
    assert "nothing that I know. Write: status;" in told(web.sms("open sesame", "SM6"))
    assert told(web.sms("report 999w", "SM7")) == "A report is of a year at most."


def test_who_proves_nothing_is_refused(web: Web, day: CameraDay) -> None:
    before = sorted(day.store.list("rooms"))
    fields = [("Body", "status"), ("From", PHONE), ("MessageSid", "SM7"), ("To", "+15005550006"), ("NumMedia", "0")]
    for bad in (
        "",
        "AAAA",
        signature("another token", f"{PUBLIC}/sms", fields),
        signature(AUTH, f"{PUBLIC}/messages", fields),
    ):
        assert web.sms("status", "SM7", signature=bad).status_code == 403
    other = urlencode([("Body", "clean room 2"), *fields[1:]]).encode()
    assert web.sms("status", "SM7", content=other).status_code == 403, "another text under the signature"
    assert web.sms("status", "SM7", sender="+4915100000000").status_code == 403, "signed, and not in the book"
    assert web.call({"text": "status"}, signature="").status_code == 403
    assert web.call({"text": "status"}, at=time.time() - 400).status_code == 403, "an old one"
    assert httpx.get(f"{web.server.address}/sms").status_code == 405
    assert sorted(day.store.list("rooms")) == before


def test_what_is_no_message_is_refused(web: Web) -> None:
    values: tuple[Any, ...] = (
        b"no JSON",
        [],
        {"text": 5},
        {},
        {"text": "x", "id": "a/b"},
        {"text": "x", "from": 1},
        b"[" * 10_000,
    )
    for value in values:
        assert web.call(value).status_code == 400, value
    assert web.call(b"x" * (MOST_BYTES + 1)).status_code == 413
    assert web.sms("status", "").status_code == 400
    assert web.sms("x", content=b"a=1&" * 300).status_code == 400
    assert httpx.get(f"{web.server.address}/health").json() == {"healthy": True}


def test_a_failure_is_told_and_tried_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise NetworkError("The store is away.")

    with monkeypatch.context() as patch:
        patch.setattr(web.answers, "_report", fails)
        answer = web.call({"text": "report 2026-10-25", "id": "same"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["text"] == "It did not work: The store is away."
    assert web.call({"text": "report 2026-10-25", "id": "same"}).status_code == 200


def test_too_much_at_once_is_put_off(day: CameraDay) -> None:
    web = Web(day, patience_s=0.01)
    gate = threading.Event()
    web.answers._report = lambda *_: gate.wait(60)  # type: ignore[assignment]
    try:
        days = [f"report 2026-09-{1 + n % 30:02d} {'gate' if n < 30 else 'yard'}" for n in range(MOST_WAITING + 1)]
        states = [web.call({"text": text, "id": f"n{n}"}).status_code for n, text in enumerate(days)]
        assert states == [202] * MOST_WAITING + [503]
    finally:
        gate.set()
        web.stop()


def test_nobody_to_listen_to_is_no_server() -> None:
    for token, auth, senders in (
        (None, None, [PHONE]),
        ("short", None, []),
        (None, "short", [PHONE]),
        (None, AUTH, []),
    ):
        with pytest.raises(SetupError):
            Keys(token, auth, frozenset(senders))


def message(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["message", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_answers_the_same(day: CameraDay, tmp_path: Path) -> None:
    book = tmp_path / "rooms.yaml"
    book.write_text(BOOK.format(recordings=day.recordings))
    given = ("--config", book, "--store", day.store.root)
    status, shown, _ = message("report 2026-10-25", *given)
    assert status == 0
    said, link = shown.strip().rsplit("\n", 1)
    assert "10 visits, 6 alerts" in " ".join(said.split())
    assert Path(link.removeprefix("file://")).read_text().startswith("<!doctype html>")
    assert "Marked as cleaned" in message("clean lab", *given, "--from", "Ann")[1]
    book.write_text("rooms: {A: {kamera: x}}\n")
    status, _, said = message("status", *given)
    assert (status, "rooms.yaml:1: rooms.A.kamera" in " ".join(said.split())) == (2, True)


def test_a_served_report_is_a_flow_run(engine: None, day: CameraDay) -> None:
    from flows.messages.run import flow_report

    book = read_book(BOOK.format(recordings=day.recordings))
    answers = Answers(day.store, book, lambda period, cameras: flow_report(day.store, book, period, cameras))
    desk = MessageDesk(answers, 120)
    with ThreadPoolExecutor(1) as pool:  # as the server's threads do, which know nothing of this one's API
        reply = pool.submit(desk.take, "report 2026-10-25 yard", "m", "test").result()
    desk.stop()
    assert reply.state == "done"
    assert reply.text.startswith("yard, Sunday 2026-10-25")
    assert desk.page(reply.page or "")[0] == "done"
