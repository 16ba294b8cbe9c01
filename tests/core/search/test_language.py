import contextlib
import math
import time

import pytest

from tasks.core.search.language import ObjectQuery, ObjectTerm, parse
from tasks.core.search.query import QueryError
from tests.core.publish.results import ATTACKS

CLASSES = ["person", "car", "bus", "knife", "traffic light", "mouse", "skis", "potted plant"]


def asked(text: str) -> ObjectQuery:
    found = parse(text, CLASSES).objects
    assert found is not None
    return found


def terms(text: str) -> list[list[str]]:
    return [[str(term) for term in alternative] for alternative in asked(text).alternatives]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("car", [["car"]]),
        ("Cars", [["car"]]),
        ("people", [["person"]]),
        ("buses, knives & mice", [["bus", "knife", "mouse"]]),
        ("a ski", [["skis"]]),
        ("traffic lights and a potted plant", [["traffic light", "potted plant"]]),
        ("3 person", [["at least 3 person"]]),
        ("2 persons", [["at least 2 person"]]),
        ("one car", [["car"]]),
        ("exactly 2 persons", [["exactly 2 person"]]),
        ("exactly two cars", [["exactly 2 car"]]),
        ("at least 2 cars", [["at least 2 car"]]),
        (">= 2 cars", [["at least 2 car"]]),
        ("2+ cars", [["at least 2 car"]]),
        ("three or more cars", [["at least 3 car"]]),
        ("more than 1 car", [["at least 2 car"]]),
        ("at most 2 cars", [["at most 2 car"]]),
        ("fewer than 3 cars", [["at most 2 car"]]),
        ("person and 2 cars or a bus", [["person", "at least 2 car"], ["bus"]]),
        ("car with a person", [["car", "person"]]),
    ],
)
def test_objects_and_their_counts(text: str, found: list[list[str]]) -> None:
    assert terms(text) == found
    assert asked(text).complete


@pytest.mark.parametrize("text", ["a person opening a door", "red car", '"get in" car', "car 5"])
def test_a_text_that_asks_for_more_than_objects_says_so(text: str) -> None:
    assert not asked(text).complete


@pytest.mark.parametrize("text", ["a red circle", "no car", "person without a car", "scar", '"person"'])
def test_texts_that_name_no_object_to_be_seen(text: str) -> None:
    assert parse(text, CLASSES).objects is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("perosn", [["person"]]),
        ("2 persosn and a knfe", [["at least 2 person", "knife"]]),
        ("trafic lihgts", [["traffic light"]]),
        ("poted plant", [["potted plant"]]),
        ("peolpe", [["person"]]),
    ],
)
def test_typing_errors_in_classes_are_forgiven(text: str, found: list[list[str]]) -> None:
    assert terms(text) == found
    assert asked(text).complete


@pytest.mark.parametrize("text", ["cra", "bsu", "the mouth", "that", "1235"])
def test_short_words_and_what_is_said_are_no_misspelt_classes(text: str) -> None:
    assert parse(text, [*CLASSES, "hat", "1234"], {"mouth"}.__contains__).objects is None


def test_a_class_in_a_script_with_signs_can_be_asked_for() -> None:
    for name in ("किताब", "புத்தகம்", "책상"):
        assert parse(f"2 {name}", [name]).objects == ObjectQuery(((ObjectTerm(name, 2),),))


def test_within() -> None:
    assert asked("person and car within 5 s").within_s == 5
    assert asked("person within 2 minutes car").within_s == 120
    lone = parse("person within 5 s", CLASSES)
    assert lone.objects is not None
    assert (lone.objects.within_s, lone.objects.complete) == (0, False)
    assert lone.loose == ("person", "within", "5", "s")


@pytest.mark.parametrize(
    ("text", "confidence", "or_equal"),
    [("car conf>0.5", 0.5, False), ("car confidence >= 70%", 0.7, True), ("conf>.25 car", 0.25, False)],
)
def test_confidence(text: str, confidence: float, or_equal: bool) -> None:
    found = asked(text)
    assert (found.confidence, found.or_equal, found.complete) == (confidence, or_equal, True)
    assert parse(text, CLASSES).loose == ("car",)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("car from 1:00 to 2:30", 60, 150),
        ("car from 0:01.5 until 1:00:00", 1.5, 3600),
        ("car from 90 s to 120s", 90, 120),
        ("car", 0, math.inf),
    ],
)
def test_stretch_of_time(text: str, start: float, end: float) -> None:
    found = parse(text, CLASSES)
    assert (found.start_s, found.end_s, found.loose, found.meaning) == (start, end, ("car",), "car")


def test_words_that_only_look_like_conditions_stay_words() -> None:
    assert parse("from one to two within reach", CLASSES).loose == ("from", "one", "to", "two", "within", "reach")
    assert parse('"from 1:00 to 2:00"', CLASSES).end_s == math.inf


def test_phrases_and_loose_words() -> None:
    found = parse('"Red circle" jumps “blue square”', CLASSES)
    assert found.phrases == (("red", "circle"), ("blue", "square"))
    assert found.loose == ("jumps",)
    assert set(found.meaning.split()) == {"Red", "circle", "blue", "square", "jumps"}
    assert parse('an "open quote', CLASSES).loose == ("an", "open", "quote")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("car from 2:00 to 1:00", "ends before"),
        ("car conf>5", "from 0 to 1"),
        ("car conf<0.5", "write conf>0.5"),
        ("words conf>0.5", "needs a class"),
        ("person and car within 0 s", "more than 0 s"),
        ("person and car within 99999 s", "at most 3600 s"),
        ("less than 1 car", "asks for none"),
        ("from 1:00 to 2:00", "write some words"),
        ("!!! ???", "write some words"),
    ],
)
def test_questions_that_make_no_sense_say_what_to_write(text: str, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        parse(text, CLASSES)


@pytest.mark.parametrize("text", [*ATTACKS, "(" * 500, '"' * 500, "1" * 500, "from " * 100, "a or " * 125, "٣ cars"])
def test_hostile_texts_are_words_and_take_no_time(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(QueryError):
        parse(text[:500], [*CLASSES, *ATTACKS, "", "'", "or"])
    assert time.process_time() - began < 0.5


def test_a_class_with_an_odd_name_can_be_asked_for() -> None:
    name = "Fork-lift'); DROP TABLE objects"
    assert parse("2 fork lift drop table objects", [name]).objects == ObjectQuery(((ObjectTerm(name, 2),),))
