from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from tasks.core.schema import Detections
from tasks.core.search.corpus import Boxes, MediaFacts, Sighted
from tasks.core.search.language import parse
from tasks.core.search.objects import find_objects
from tasks.core.search.rows import boxes_together
from tests.core.search.corpora import analysed, seen


def boxes(found: Detections) -> dict[str, Boxes]:
    flat = [(b.class_, f.index, f.time, b.confidence) for f in found.frames for b in f.boxes]
    return {
        name: Boxes(
            np.zeros(sum(row[0] == name for row in flat), np.int64),
            np.array([row[1] for row in flat if row[0] == name], np.int32),
            np.array([row[2] for row in flat if row[0] == name]),
            np.array([row[3] for row in flat if row[0] == name], np.float32),
        )
        for name in {row[0] for row in flat}
    }


def block(media: Mapping[str, dict[str, Boxes]]) -> Sighted:
    """Media as one block."""
    names = {name for held in media.values() for name in held}
    together = {
        name: boxes_together([(at, held[name]) for at, held in enumerate(media.values()) if name in held])
        for name in names
    }
    highest = max(float(each.confidences.max()) for each in together.values())
    return Sighted(list(media), highest, together)


def stretches(text: str, *media: Detections, most: int = 100) -> list[tuple[str, float, float, float]]:
    """(media, start, end, confidence) of frames a second apart."""
    held = {name: boxes(found) for name, found in zip("abcdef", media, strict=False)}
    facts = {name: fact(name, float(found.frames_sampled)) for name, found in zip("abcdef", media, strict=False)}
    parsed = parse(text, {name for each in held.values() for name in each})
    assert parsed.objects is not None
    finds = find_objects([block(held)], facts, parsed.objects, (parsed.start_s, parsed.end_s), most)
    return [(find.media_id, find.start, find.end, find.score) for find in finds]


def fact(name: str, duration_s: float) -> MediaFacts:
    return MediaFacts(name, "", "", None, analysed(1).created, duration_s, 1.0)


def spans(text: str, *frames: str) -> list[tuple[float, float]]:
    return sorted((start, end) for _, start, end, _ in stretches(text, seen(*frames)))


STREET = ("car", "car car", "", "person car", "person person person", "", "", "car")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("car", [(0, 2), (3, 4), (7, 8)]),
        ("2 cars", [(1, 2)]),
        ("1 car", [(0, 2), (3, 4), (7, 8)]),
        ("exactly 1 car", [(0, 1), (3, 4), (7, 8)]),
        ("2 people", [(4, 5)]),
        ("exactly 2 people", []),
        ("at least 1 car", [(0, 2), (3, 4), (7, 8)]),
        ("3 people", [(4, 5)]),
        ("at most 2 people", [(3, 4)]),
        ("4 people", []),
        ("person and car", [(3, 4)]),
        ("person and car within 1 s", [(3, 5)]),
        ("person and car within 3 s", [(1, 8)]),
        ("3 people and 2 cars within 3 s", [(1, 5)]),
        ("3 people and 2 cars within 2.9 s", []),
        ("person or 2 cars", [(1, 2), (3, 5)]),
        ("car from 0:01 to 0:04", [(1, 2), (3, 4)]),
    ],
)
def test_neighbouring_frames_are_one_find(text: str, found: list[tuple[float, float]]) -> None:
    assert spans(text, *STREET) == found


def test_only_boxes_that_are_sure_enough_count() -> None:
    made = seen([("car", 0.5), ("car", 0.75)], [("car", 0.5)], [("car", 0.25)])
    assert [row[1:3] for row in stretches("car conf>=0.5", made)] == [(0, 2)]
    assert [row[1:3] for row in stretches("car conf>0.5", made)] == [(0, 1)]
    assert [row[1:3] for row in stretches("2 cars conf>0.4", made)] == [(0, 1)]
    assert [row[1:3] for row in stretches("exactly 1 car conf>0.6", made)] == [(0, 1)]


def test_a_find_is_as_sure_as_the_last_box_that_it_needs() -> None:
    made = seen([("car", 0.9), ("car", 0.6), ("person", 0.5)])
    assert stretches("car", made)[0][3] == pytest.approx(0.9)
    assert stretches("2 cars", made)[0][3] == pytest.approx(0.6)
    assert stretches("2 cars and person", made)[0][3] == pytest.approx(0.55)


def test_the_surest_come_first_and_media_that_cannot_be_among_them_are_not_looked_at() -> None:
    made = [seen([("car", sure)], "", [("car", sure - 0.25)]) for sure in (0.5, 0.9, 0.7, 0.6)]
    best = [(name, round(sure, 2)) for name, _, _, sure in stretches("car", *made, most=3)]
    assert best == [("b", 0.9), ("c", 0.7), ("b", 0.65)]

    looked: list[str] = []

    def sighted() -> Iterator[Sighted]:
        for name, sure in zip("abcdefgh", np.linspace(0.9, 0.2, 8), strict=True):
            looked.append(name)
            yield block({name: boxes(seen([("car", float(sure))]))})

    facts = {name: fact(name, 1.0) for name in "abcdefgh"}
    parsed = parse("car", ["car"]).objects
    assert parsed is not None
    assert [find.media_id for find in find_objects(sighted(), facts, parsed, (0.0, 9.0), 3)] == ["a", "b", "c"]
    assert looked == ["a", "b", "c", "d"]


@pytest.mark.parametrize("text", ["car", "2 cars", "person and car", "person and car within 2 s", "car or person"])
def test_media_of_a_block_are_apart(text: str) -> None:
    one, other = seen(*STREET), seen("", "person", "car car", "", "car person", "person", "", "car")
    together = stretches(text, one, other, one)
    alone = [row[1:] for row in stretches(text, one)], [row[1:] for row in stretches(text, other)]
    for name, expected in zip("abc", (*alone, alone[0]), strict=True):
        assert sorted(row[1:] for row in together if row[0] == name) == sorted(expected)
