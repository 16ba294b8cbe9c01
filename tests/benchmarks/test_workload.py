from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks._workload import MEANING, PATTERNS, Pattern, Workload

OPEN: tuple[Pattern, ...] = ("steady", "burst", "ramp", "poisson")


@pytest.mark.parametrize("pattern", OPEN)
def test_requests_come_in_order_at_the_mean_rate(pattern: Pattern) -> None:
    arrivals = Workload(pattern, count=2000, rate=4.0, concurrency=8, seed=3).arrivals()
    assert len(arrivals) == 2000
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] == pytest.approx(2000 / 4.0, rel=0.1)


def test_steady_leaves_equal_gaps() -> None:
    assert Workload("steady", 4, rate=2.0).arrivals() == [0.0, 0.5, 1.0, 1.5]


def test_a_burst_comes_at_once_and_the_next_after_its_share_of_the_time() -> None:
    assert Workload("burst", 5, rate=1.0, concurrency=2).arrivals() == [0.0, 0.0, 2.0, 2.0, 4.0]


def test_a_ramp_gets_faster_linearly() -> None:
    """At rate(t) = 2 r t / T a quarter of the requests has come after half of the time."""
    arrivals = Workload("ramp", 1000, rate=10.0).arrivals()
    assert sum(at < 50.0 for at in arrivals) == pytest.approx(250, abs=1)
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(1 / 20.0, rel=0.01)


def test_poisson_gaps_are_exponential_and_the_seed_s() -> None:
    def gaps(seed: int) -> list[float]:
        return [b - a for a, b in pairwise([0.0, *Workload("poisson", 5000, rate=2.0, seed=seed).arrivals()])]

    drawn = gaps(1)
    assert gaps(1) == drawn
    assert gaps(2) != drawn
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, rel=0.05)
    assert sum(gap > 0.5 for gap in drawn) / len(drawn) == pytest.approx(0.368, abs=0.02)  # exp(-1)


def test_a_closed_loop_has_no_arrivals() -> None:
    with pytest.raises(ValueError, match="wait for answers"):
        Workload("closed", 10, concurrency=4).arrivals()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"rate": 0.0}, {"rate": float("nan")}, {"concurrency": -1}])
def test_a_value_that_makes_no_workload_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        Workload("steady", **({"count": 10} | wrong))  # type: ignore[arg-type]


def test_labels_tell_levels_apart() -> None:
    assert Workload("closed", 9, concurrency=8).label == "closed 8"
    assert Workload("steady", 9, rate=0.5).label == "steady 0.5/s"
    assert Workload("burst", 9, rate=1.0, concurrency=4).label == "burst 1/s by 4"


def test_every_pattern_is_explained() -> None:
    assert set(MEANING) == set(PATTERNS)
