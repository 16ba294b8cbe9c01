"""Hours and days as a place counts them."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from tasks.core.activity.period import Period, midnight, place, shares


def day(zone: str, *when: int) -> Period:
    begin, end = midnight(date(*when), zone), midnight(date.fromordinal(date(*when).toordinal() + 1), zone)
    return Period(begin=begin, end=end, timezone=zone)


@pytest.mark.parametrize(
    ("zone", "when", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 11, 28), 24),
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("Asia/Kathmandu", (2026, 6, 1), 24),  # +05:45
        ("UTC", (2026, 3, 29), 24),
        ("Africa/Cairo", (2026, 4, 24), 23),  # midnight itself is skipped
    ],
)
def test_days_have_as_many_hours_as_they_have(zone: str, when: tuple[int, int, int], hours: int) -> None:
    found = day(zone, *when)
    assert found.seconds == hours * 3600
    assert len(found.hours) == hours + 1
    assert {b - a for a, b in pairwise(found.hours)} == {3600.0}
    assert len(found.days) == 2
    assert {datetime.fromtimestamp(at, ZoneInfo(zone)).minute for at in found.hours} == {0}


def test_a_step_of_half_an_hour_makes_one_hour_longer() -> None:
    found = day("Australia/Lord_Howe", 2026, 4, 5)
    assert found.seconds == 24.5 * 3600
    lengths = [b - a for a, b in pairwise(found.hours)]
    assert sorted(lengths)[-1] == 5400
    assert sum(lengths) == found.seconds


def test_a_period_within_an_hour_and_one_over_days() -> None:
    begin = datetime(2026, 10, 24, 22, 10, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    short = Period(begin=begin, end=begin + 60, timezone="Europe/Berlin")
    assert short.hours == short.days == (begin, begin + 60)
    long = Period(begin=begin, end=begin + 3 * 86400, timezone="Europe/Berlin")
    assert [long.local(at).isoformat()[:13] for at in long.days[1:-1]] == [
        "2026-10-25T00",
        "2026-10-26T00",
        "2026-10-27T00",
    ]
    assert long.local(long.hours[1]).minute == 0
    for wrong in ({"end": begin}, {"end": begin + 371 * 86400}, {"end": begin + 1, "timezone": "Mars/Base"}):
        with pytest.raises(ValidationError):
            Period.model_validate({"begin": begin, **wrong})


def test_an_interval_is_shared_among_stretches() -> None:
    edges = (0.0, 10.0, 20.0, 30.0)
    assert list(shares(edges, 5, 25)) == [(0, 5), (1, 10), (2, 5)]
    assert list(shares(edges, 10, 20)) == [(1, 10)]
    assert list(shares(edges, 12, 12)) == []
    assert sum(held for _, held in shares(edges, -5, 35)) == 30
    assert [place(edges, at) for at in (-1, 0, 9.9, 10, 29, 30, 99)] == [0, 0, 0, 1, 2, 2, 2]
