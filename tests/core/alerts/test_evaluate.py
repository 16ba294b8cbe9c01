"""What fires, and when: one alert for each visit that does all that a rule asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tasks.core.alerts.evaluate import Alert, Facts, Phrase, RuleState, evaluate
from tasks.core.alerts.rules import Rule
from tasks.core.tracking.records import TrackedWindow, Window
from tests.core.tracking.scenes import START, Where, parked, track, walker, windows


def fired(rule: dict[str, object], made: Sequence[Window], said: Sequence[tuple[float, str]] = ()) -> list[Alert]:
    """The alerts of a rule, its state stored and read again after each window."""
    found: list[Alert] = []
    state, checked = RuleState(), Rule.model_validate({"name": "r"} | rule)
    for tracked in track(made):
        state = RuleState.model_validate_json(state.model_dump_json(by_alias=True))
        alerts, state = evaluate(checked, "UTC", tracked, _facts(tracked, said), state)
        found += alerts
    return found


def _facts(tracked: TrackedWindow, said: Sequence[tuple[float, str]]) -> Facts:
    begin = tracked.window.start
    phrases = [Phrase(start=START + t, end=START + t + 1, text=text) for t, text in said if 0 <= START + t - begin < 3]
    return Facts(phrases=tuple(phrases))


def times(alerts: Sequence[Alert]) -> list[float]:
    return [round(alert.time - START, 1) for alert in alerts]


WALKS = {"person": [walker(1, 11), walker(21, 31)], "car": [parked()]}


def test_each_visit_fires_once() -> None:
    alerts = fired({"class": "person"}, windows(WALKS, until=45))
    assert times(alerts) == [1.4, 21.4]
    assert len({alert.id for alert in alerts}) == 2
    assert alerts == fired({"class": "person"}, windows(WALKS, until=45))


def test_a_parked_car_fires_once_in_hours() -> None:
    made = windows({"car": [parked()]}, until=7200, fps=1, length=30, missed=lambda name, t: t % 600 < 40)
    assert len(fired({"class": "car", "frames": {"k": 1, "n": 1}}, made)) == 1


@pytest.mark.parametrize("rule", [{"class": "dog"}, {"class": "person", "confidence": 0.9}])
def test_other_classes_and_unsure_boxes_do_not_fire(rule: dict[str, object]) -> None:
    assert fired(rule, windows(WALKS, until=45)) == []


def test_a_zone_is_entered_by_the_bottom_centre() -> None:
    """The walker goes 60 of 640 pixels a second from x = 30 at second 1, and is at half of the width at 5.83."""
    right = [[0.5, 0.7], [1, 0.7], [1, 1], [0.5, 1]]
    assert times(fired({"class": "person", "zone": right}, windows(WALKS, until=45))) == [6.4, 26.4]
    above = [[0, 0], [1, 0], [1, 0.7], [0, 0.7]]
    assert fired({"class": "person", "zone": above}, windows(WALKS, until=45)) == []


def test_k_of_n_frames() -> None:
    seldom = windows({"person": [walker(1, 31, speed=10)]}, until=33, missed=lambda name, t: round(t * 5) % 3 != 0)
    assert fired({"class": "person", "frames": {"k": 3, "n": 3}}, seldom) == []
    assert len(fired({"class": "person", "frames": {"k": 2, "n": 6}}, seldom)) == 1


def test_dwell_counts_in_the_zone_and_over_windows() -> None:
    left = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    assert times(fired({"class": "person", "zone": left, "dwell_s": 4}, windows(WALKS, until=45))) == [5.0, 25.0]
    assert fired({"class": "person", "zone": left, "dwell_s": 6.5}, windows(WALKS, until=45)) == []
    assert times(fired({"class": "car", "dwell_s": 20}, windows(WALKS, until=45))) == [20.0]


def there_and_back(t: float) -> tuple[float, float, float, float] | None:
    """On the left for 3 s, on the right for 5, on the left for 3."""
    x = 100 + 90 * min(t, 3) if t < 8 else max(100, 370 - 90 * (t - 8))
    return (x, 120, x + 60, 300) if t < 13 else None


def test_dwell_begins_anew_for_one_who_left_the_zone() -> None:
    left = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    made = windows({"person": [there_and_back]}, until=18)
    assert fired({"class": "person", "zone": left, "dwell_s": 6}, made) == []
    assert len(fired({"class": "person", "zone": left, "dwell_s": 2}, made)) == 1


def shuffle(t: float) -> tuple[float, float, float, float] | None:
    """Comes from the left to the middle, stays, trembles over it, and goes back."""
    x = 290 * t / 5 if t < 5 else 290 + (15 if round(t * 5) % 2 else -15) if t < 10 else 290 - 58 * (t - 10)
    return (x, 120.0, x + 60, 300.0) if t < 14 else None


@pytest.mark.parametrize(("to", "count"), [("right", 0), ("left", 2), ("any", 2)])
def test_a_line_has_a_direction(to: str, count: int) -> None:
    """From (0.5, 0) down to (0.5, 1) the picture's right half is on the left hand."""
    line = {"points": [[0.5, 0], [0.5, 1]], "to": to}
    assert len(fired({"class": "person", "line": line}, windows(WALKS, until=45))) == count


def test_trembling_on_a_line_is_no_crossing() -> None:
    line = {"points": [[0.5, 0], [0.5, 1]]}
    assert fired({"class": "person", "line": line}, windows({"person": [shuffle]}, until=18)) == []


def test_a_line_ends_at_its_ends() -> None:
    line = {"points": [[0.5, 0], [0.5, 0.5]]}
    assert fired({"class": "person", "line": line}, windows(WALKS, until=45)) == []


def test_count_is_at_the_same_time() -> None:
    pair = {"person": [walker(1, 9), walker(5, 13, y=20), walker(20, 28)]}
    alerts = fired({"class": "person", "count": 2}, windows(pair, until=33))
    assert times(alerts) == [5.4]


def _hours(begin: float, end: float) -> dict[str, str]:
    return {name: f"{datetime.fromtimestamp(START + t, UTC):%H:%M}" for name, t in (("from", begin), ("to", end))}


def test_hours() -> None:
    """START is 08:53:20 UTC, so that 08:54 is second 40."""
    late = {"person": [walker(1, 11), walker(45, 55)]}
    alerts = fired({"class": "person", "when": _hours(40, 3600)}, windows(late, until=60))
    assert times(alerts) == [45.4]


def test_one_who_was_there_before_the_hours_fires_when_they_begin() -> None:
    assert times(fired({"class": "car", "when": _hours(40, 3600)}, windows(WALKS, until=60))) == [40.0]


def test_a_phrase() -> None:
    said = [(4.0, "Please, open the DOOR!"), (20.0, "the doorman opens")]
    alerts = fired({"phrase": "open the door"}, windows({}, until=30), said)
    assert times(alerts) == [4.0]
    assert alerts[0].kind == "phrase"


@pytest.mark.parametrize(("said_at", "count"), [(13.5, 1), (1.2, 1), (17.5, 0)])
def test_an_object_and_a_phrase_together(said_at: float, count: int) -> None:
    rule = {"class": "person", "phrase": "help", "within_s": 5}
    made = windows({"person": [walker(1, 11)]}, until=30)
    assert len(fired(rule, made, [(said_at, "Help")])) == count


@pytest.mark.parametrize(("person", "count"), [(walker(61, 66), 0), (walker(200, 206), 1)])
def test_absence_fires_at_the_end_of_its_hours(person: Where, count: int) -> None:
    """The hours are 08:54 to 08:56, seconds 40 to 160."""
    made = windows({"person": [person]}, until=240, fps=2)
    alerts = fired({"class": "person", "absent": True, "when": _hours(40, 160)}, made)
    assert times(alerts) == [160.0] * count
    assert all("240 frames" in alert.why for alert in alerts)


def test_a_cooldown_begins_at_a_match_of_its_own_rule() -> None:
    """Who passes outside of the zone starts none; within it, alerts are stored and marked."""
    near = [[0, 0.7], [1, 0.7], [1, 1], [0, 1]]
    many = {"person": [walker(1, 7, y=20), walker(10, 16), walker(20, 26), walker(75, 81)]}
    alerts = fired({"class": "person", "zone": near, "cooldown_s": 60}, windows(many, until=96))
    assert [(round(alert.time - START), alert.cooldown) for alert in alerts] == [(10, False), (20, True), (75, False)]


def test_a_tag_fires_once_for_the_windows_that_have_it() -> None:
    rule, state, count = Rule.model_validate({"name": "t", "tag": "Fire", "probability": 0.5}), RuleState(), 0
    for number, tracked in enumerate(track(windows({}, until=30))):
        tags = {"fire": 0.8} if number in (2, 3, 4, 8) else {"fire": 0.2, "sky": 0.9}
        alerts, state = evaluate(rule, "UTC", tracked, Facts(tags=tags), state)
        count += len(alerts)
    assert count == 2
