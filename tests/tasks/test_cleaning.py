"""Marks of rooms, none lost and none doubled, and who was there since."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows.alerts import run_once
from tasks.cleaning import mark_cleaned, room_state, room_states
from tasks.core.alerts.rules import read_rules
from tasks.core.messages.book import read_book
from tasks.core.messages.cleaning import LOOK_BACK_S, Mark, page
from tasks.store import Store, open_store
from tests.core.tracking.scenes import START, Where, parked, walker, windows
from tests.tasks.recordings import analyse_all, record

SCENE: dict[str, list[Where]] = {
    "person": [walker(1, 9), walker(14, 22, speed=40), walker(25, 28, x=300)],
    "car": [parked()],
}
BOOK = read_book("""\
timezone: Europe/Berlin
rooms:
  Whole: {camera: gate}
  Left: {camera: gate, zone: [[0, 0], [0.4, 0], [0.4, 1], [0, 1]]}
  Cars: {camera: gate, class: car}
  Elsewhere: {camera: barn}
""")


def states(store: Store, now: float) -> dict[str, Any]:
    return {state.room: (state.visits, state.seconds) for state in room_states(store, BOOK, now)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    made = windows(SCENE, until=30)
    analyse_all(store, record(tmp_path / "rec", made), made)
    rules = read_rules("rules: [{name: r, class: person}]")
    run_once(str(tmp_path / "rec"), store, rules, lambda _: None, lambda _: None)
    return store


def mark(store: Store, room: str, at: float, name: str = "m") -> Mark:
    return mark_cleaned(store, room, Mark(id=name, at=START + at, by="test"))


def test_who_was_there_since_it_was_cleaned(store: Store) -> None:
    """Walkers go right from x 0 (foot at 30 px) with 60 and 40 px/s: the first leaves the left 256 px after 3.8 s."""
    found = states(store, START + 40)
    assert found["Whole"] == (3, pytest.approx(7.8 + 7.8 + 2.8, abs=0.05))
    first, second = (256 - 30) / 60, (256 - 30) / 40
    assert found["Left"] == (2, pytest.approx(first + second, abs=0.4)), "the third is never there"
    assert found["Cars"] == (1, pytest.approx(29.8, abs=0.05))
    assert found["Elsewhere"] == (0, 0.0)
    mark(store, "Left", 12)
    mark(store, "Whole", 18)
    found = states(store, START + 40)
    assert found["Left"] == (1, pytest.approx(second, abs=0.3))
    assert found["Whole"] == (2, pytest.approx(21.8 - 18 + 2.8, abs=0.05)), "who was there then is still there after it"
    mark(store, "Left", 30, "m2")
    assert states(store, START + 40)["Left"] == (0, 0.0)
    early = room_state(store, "Left", BOOK.rooms["Left"], START + 40, leave_out="m2")
    assert (early.visits, early.cleaned and early.cleaned.id) == (1, "m"), "as if it had not been said"


def test_what_is_said_of_a_room(store: Store) -> None:
    mark(store, "Left", 12)
    said = {state.room: state.line("Europe/Berlin") for state in room_states(store, BOOK, START + 40)}
    assert said["Left"].startswith("Left: 1 visit, 5")
    assert said["Left"].endswith("since Thu 09 Oct 10:53")
    assert "never marked as cleaned" in said["Whole"]
    assert said["Elsewhere"] == "Elsewhere: not known, nobody follows barn"
    later = room_state(store, "Left", BOOK.rooms["Left"], START + 40 + 2 * LOOK_BACK_S)
    assert "not marked as cleaned (followed until" in later.line("UTC")
    text = page(room_states(store, BOOK, START + 40), "UTC", START + 40)
    assert "3 of 4 rooms visited" in text
    assert "<script" not in text


def test_a_mark_that_is_sent_again_is_one(store: Store) -> None:
    first = mark(store, "Whole", 5, "SM1")
    assert mark(store, "Whole", 9, "SM1") == first, "the time at which it came first counts"
    mark(store, "Whole", 10, "SM2")
    [path] = store.list("rooms")
    marks = json.loads((store.read(path) or (b"",))[0])["marks"]
    assert [each["id"] for each in marks] == ["SM1", "SM2"]


def test_marks_at_the_same_moment_are_all_kept(store: Store, s3_store: Store) -> None:
    """Twenty at once, each sent twice: to a folder and to a bucket of a real server."""
    for root in (store, s3_store):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n, root=root: mark(root, "Whole", n % 20, f"SM{n % 20}"), range(40)))
        [path] = root.list("rooms")
        marks = json.loads((root.read(path) or (b"",))[0])["marks"]
        assert [each["id"] for each in marks] == [f"SM{n}" for n in range(20)]
