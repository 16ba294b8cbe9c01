"""When a machine falls behind: less at once, more again slowly, and every level stands in the options."""

from __future__ import annotations

from tasks.core.events.shedding import ASSUMED_S, CALM_S, Shedding, ladder, rates
from tasks.core.options import parse_options


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_level_halves_the_rate_and_nothing_else() -> None:
    asked = parse_options(["frames.fps=2", "detections.confidence=0.4"])
    found = ladder(asked, 3)
    assert [each.frames.fps for each in found] == [2.0, 1.0, 0.5]
    assert found[0] == asked
    assert {each.detections.confidence for each in found} == {0.4}
    assert rates(found) == "2, 1 or 0.5"
    assert rates(found[:1]) == "2"


def test_it_samples_less_at_once_by_how_much_too_late_it_would_be() -> None:
    shed = Shedding(6.0, 3, 2, Clock())
    assert shed.wait_s(6) == 6 * ASSUMED_S / 2
    assert shed.choose(6) == 0, "at the limit is not behind"
    assert shed.choose(7) == 1
    assert shed.choose(12) == 2
    assert shed.choose(1000) == 2, "there is no level below the last"


def test_it_samples_more_again_one_step_at_a_time_after_a_calm() -> None:
    clock = Clock()
    shed = Shedding(6.0, 3, 2, clock)
    assert shed.choose(100) == 2
    assert shed.choose(0) == 2
    clock.now += CALM_S - 1
    assert shed.choose(5) == 2, "more than half of the limit is no calm"
    clock.now += CALM_S - 1
    assert shed.choose(0) == 2
    clock.now += 1
    assert shed.choose(0) == 1
    assert shed.choose(0) == 1
    clock.now += CALM_S
    assert shed.choose(0) == 0


def test_it_learns_how_long_an_object_takes() -> None:
    shed = Shedding(6.0, 3, 2, Clock())
    for _ in range(50):
        shed.took(0.5)
    assert shed.choose(20) == 0
    for _ in range(50):
        shed.took(4.0)
    assert shed.choose(20) == 2


def test_with_one_level_it_never_samples_less() -> None:
    assert Shedding(1.0, 1, 1, Clock()).choose(10_000) == 0
