"""States of a picture: each is told when it is there, none when it is not, and each has one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.live.events import Events
from tasks.core.live.health import CONFIRM, HEIGHT, LEARN, WIDTH, Health, Kind, Picture, picture_of
from tests.core.live import samples as take

NOISE = np.random.default_rng(7)


def scene(seed: int = 1, brightness: float = 110.0) -> Picture:
    """A room: rectangles of different grey."""
    drawn = np.full((HEIGHT, WIDTH), brightness, np.float32)
    places = np.random.default_rng(seed)
    for _ in range(25):
        top, left = places.integers(0, HEIGHT - 10), places.integers(0, WIDTH - 20)
        drawn[top : top + places.integers(4, 30), left : left + places.integers(4, 50)] = places.integers(30, 220)
    return drawn


def seen(picture: Picture, times: int) -> Iterator[Picture]:
    """As a sensor sees it: with noise."""
    for _ in range(times):
        yield np.clip(picture + NOISE.normal(0, 2, picture.shape), 0, 255).astype(np.float32)


def watch(pictures: Iterable[Picture]) -> tuple[Health, list[set[Kind]]]:
    health = Health()
    states = []
    for number, picture in enumerate(pictures):
        health.look(picture, float(number), 1000.0 + number)
        states.append(set(health.since))
    return health, states


def blurred(picture: Picture) -> Picture:
    for _ in range(8):
        sides = [np.roll(picture, step, axis) for step in (1, -1) for axis in (0, 1)]
        picture = ((2 * picture + sides[0] + sides[1] + sides[2] + sides[3]) / 6).astype(np.float32)
    return picture


def passing(picture: Picture) -> Iterator[Picture]:
    """Somebody walks through."""
    for step in range(40):
        moved = picture.copy()
        moved[20:80, 4 * step % WIDTH : 4 * step % WIDTH + 25] = 60
        yield from seen(moved, 1)


@pytest.mark.parametrize(
    ("kind", "picture"),
    [
        ("dark", scene() * 0.05),
        ("covered_or_moved", scene(2)),
        ("blurred", blurred(scene())),
    ],
)
def test_a_state_begins_after_some_looks_and_ends_after_some(kind: str, picture: Picture) -> None:
    usual = LEARN + 10
    _, states = watch([*seen(scene(), usual), *seen(picture, 8), *seen(scene(), 8)])
    assert all(not state for state in states[:usual])
    assert [kind in state for state in states[usual:]] == [*[False] * (CONFIRM - 1), *[True] * 8, *[False] * 6][:16]
    assert set().union(*states) == {kind}


def test_what_passes_by_and_a_still_room_are_no_events() -> None:
    _, states = watch([*seen(scene(), 30), *passing(scene()), *seen(scene(brightness=140), 20)])
    assert set().union(*states) == set()


def test_a_picture_without_the_least_change_is_frozen() -> None:
    still = next(seen(scene(), 1))
    _, states = watch([*seen(scene(), 5), *[still] * 20])
    assert "frozen" in states[-1]
    assert "frozen" not in states[12]


def test_a_frame_rate_that_falls_is_told() -> None:
    health = Health()
    for number, fps in enumerate([25.0] * 5 + [10.0] * 3):
        health.window(fps, float(number))
    assert health.since == {"rate_fallen": 7.0}


def test_key_frames_of_a_stream_are_looked_at_once_a_second(sample: Callable[..., Path]) -> None:
    layout, samples = take.read(sample("write", seconds=4.0, gop=12, audio=None))
    health, decode = Health(), picture_of(layout.streams[0])
    looked = []
    for one in samples:
        media = float((one.pts or 0) * layout.streams[0].time_base)
        if health.wants(one, media):
            picture = decode(one)
            assert picture is not None
            assert picture.shape == (HEIGHT, WIDTH)
            health.look(picture, media, media)
            looked.append(media)
    assert looked == pytest.approx([0.0, 1.44, 2.88])


def test_an_event_has_one_row_from_its_begin_to_its_end() -> None:
    kinds: Any = frozenset({"dark", "frozen"})
    events = Events("gate", {})
    [begun] = events.now({"dark": 1000.0}, 1010.0, kinds)
    assert events.now({"dark": 1000.0}, 1020.0, kinds) == []
    again = Events("gate", events.open)  # a restart
    assert again.now({"dark": 1025.0}, 1025.0, kinds) == []
    [over] = again.now({}, 1030.0, kinds)
    assert (begun.start, begun.end) == ("1970-01-01T00:16:40.000Z", None)
    assert (over.start, over.end) == (begun.start, "1970-01-01T00:17:10.000Z")
    assert over.path == begun.path
