"""Files of rules: what they may say, and the line of what they may not."""

from __future__ import annotations

import pytest

from tasks.core.alerts.rules import BadRules, read_rules

GOOD = """\
timezone: Europe/Berlin
targets:
  phone: {url: "env:PHONE"}
  log: {webhook: "https://example.org/a", secret: "env:KEY"}
quiet: {from: 23:00, to: 07:00, then: hold}
rules:
  - name: back door
    camera: back-door
    class: [person, dog]
    zone: [[0.2, 0.5], [0.8, 0.5], [0.8, 1], [0.2, 1]]
    when: {from: 22:00, to: 06:00, days: [fri, sat]}
    to: [phone, log]
  - name: gate
    class: car
    line: {points: [[0, 0.5], [1, 0.5]], to: left}
"""


def test_a_good_file() -> None:
    rules = read_rules(GOOD)
    door, gate = rules.rules
    assert door.classes == ("person", "dog")
    assert door.when is not None
    assert (door.when.start.hour, door.when.end.hour, door.when.days) == (22, 6, ("fri", "sat"))
    assert (door.watches("back-door"), door.watches("yard"), gate.watches("yard")) == (True, False, True)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("class: car", "klass: car", 14, "klass: there is no such field"),
        ("class: car", "class: []", 13, "class, phrase or tag"),
        ("[0.8, 0.5]", "[320, 0.5]", 10, "320 of 640"),
        ("[[0.2, 0.5], [0.8, 0.5], [0.8, 1], [0.2, 1]]", "[[0, 0], [1, 1], [0.5, 0.5]]", 10, "holds nothing"),
        ("22:00", "26:00", 11, "22:00"),
        ("[fri, sat]", "[fri, caturday]", 11, "'mon', 'tue'"),
        ("Europe/Berlin", "Europe/Atlantis", 1, "no time zone"),
        ("to: [phone, log]", "to: [phone, pager]", 12, "'pager', which is not defined"),
        ("name: gate", "name: back door", 1, "two rules have one name"),
        ("to: left", "to: up", 15, "'left', 'right' or 'any'"),
        ("class: car", "class: car\n    class: dog", 15, "twice"),
        ("camera: back-door", "camera: back-door\n    frames: {k: 6, n: 5}", 9, "never be"),
        ("class: car", "class: car\n    absent: true", 13, "absent"),
        ("secret:", "url: 'json://x', secret:", 4, "either a webhook or an apprise url"),
        ("camera: back-door", "camera: &a back-door\n    tag: *a", 9, "no aliases"),
        ("name: gate", "name: [gate", 14, ""),
        ("  - name: gate", "  - \tname: gate", 13, ""),
    ],
)
def test_a_fault_is_said_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    with pytest.raises(BadRules) as caught:
        read_rules(GOOD.replace(old, new, 1), "r.yaml")
    lines = str(caught.value).split("\n")
    assert any(each.startswith(f"r.yaml:{line}: ") and said in each for each in lines), str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: b", "rules: 5", "rules: []", "- " * 3000, "\0", "rules: !!python/object:x {}"]
)
def test_what_is_no_file_of_rules(text: str) -> None:
    with pytest.raises(BadRules, match=r"r\.yaml"):
        read_rules(text, "r.yaml")


def test_the_digest_is_of_what_makes_it_fire() -> None:
    door = read_rules(GOOD).rules[0]
    assert door.digest("UTC") != door.digest("Europe/Berlin")
    assert door.digest("UTC") == door.model_copy(update={"to": ("log",)}).digest("UTC")
    assert door.digest("UTC") != door.model_copy(update={"confidence": 0.5}).digest("UTC")
