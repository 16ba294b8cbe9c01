"""What people type, and what it asks."""

from __future__ import annotations

import random
import string

import pytest

from tasks.core.messages.ask import Ask, read_message
from tasks.core.messages.book import read_book
from tasks.core.written import BadFile

BOOK = """\
rooms:
  Room 1: {camera: hall}
  Room 2: {camera: yard, zone: [[0, 0.5], [0.5, 0.5], [0.5, 1]], also: [lab, "2"]}
  Cleaners' room: {camera: hall}
"""
ROOMS = read_book(BOOK).names


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("status", Ask(kind="status")),
        ("  Status. ", Ask(kind="status")),
        ("report", Ask(kind="report")),
        ("Report today!", Ask(kind="report")),
        ("report yesterday", Ask(kind="report", span="yesterday")),
        ("report for yesterday gate, Back-Door", Ask(kind="report", span="yesterday", cameras=("gate", "Back-Door"))),
        ("report gate", Ask(kind="report", cameras=("gate",))),
        ("report 2026-11-21 of gate and hall", Ask(kind="report", span="2026-11-21", cameras=("gate", "hall"))),
        ("report 7d", Ask(kind="report", span="7d")),
        ("report 7 days", Ask(kind="report", span="7 days")),
        ("cleaning", Ask(kind="cleaning")),
        ("rooms?", Ask(kind="cleaning")),
        ("clean", Ask(kind="cleaning")),
        ("clean room 2", Ask(kind="clean", room="Room 2")),
        ("CLEANED  the lab", Ask(kind="clean", room="Room 2")),
        ("lab is clean", Ask(kind="clean", room="Room 2")),
        ("room 1 done.", Ask(kind="clean", room="Room 1")),
        ("clean 2", Ask(kind="clean", room="Room 2")),
        ("done with cleaners' room", Ask(kind="clean", room="Cleaners' room")),
        ("help", Ask(kind="help")),
        ("", Ask(kind="help")),
    ],
)
def test_messages_are_understood(text: str, meant: Ask) -> None:
    assert read_message(text, ROOMS) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("clean room 7", "There is no room"),
        ("report todays gate", "is no day"),
        ("open the door", "nothing that I know"),
        ("clean \x1b[31mroom", "There is no room"),
    ],
)
def test_what_is_not_understood_is_said(text: str, why: str) -> None:
    found = read_message(text, ROOMS)
    assert found.kind == "help"
    assert why in found.why
    assert found.why.isprintable()


def test_no_text_is_too_much() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        text = "".join(rng.choices(string.printable + "äß٣🙂\u202e", k=rng.randint(0, 60)))
        read_message(rng.choice(["", "report ", "clean ", "cleaned "]) + text, ROOMS)
    assert read_message("clean " * 100_000, ROOMS).kind == "help"
    assert read_message("a " * 100_000 + "done", ROOMS).kind == "help"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rooms:\n  A: {camera: x}\n  a: {camera: y}\n", "two rooms are called a"),
        ("rooms:\n  A: {camera: x, zone: [[0, 0], [1, 1]]}\n", "rooms:2: rooms.A.zone"),
        ("rooms:\n  A: {kamera: x}\n", "rooms:2: rooms.A.kamera: there is no such field"),
        ("recordings: https://user:pass@host/x\n", "carries credentials"),
        ("timezone: Mars/Base\n", "rooms:1: timezone"),
        ("senders: &a [+491]\nrooms: *a\n", "no aliases"),
        ("rooms:\n  A: {camera: x}\n  A: {camera: y}\n", "rooms:3"),
    ],
)
def test_faults_of_the_book_have_lines(text: str, fault: str) -> None:
    with pytest.raises(BadFile) as raised:
        read_book(text)
    assert fault in str(raised.value)
