"""Hours of rules: over midnight, on days, and where the clock is put forward or back."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from tasks.core.alerts.clock import Hours

BERLIN = "Europe/Berlin"


def hours(start: str, end: str, *days: str) -> Hours:
    return Hours.model_validate({"from": start, "to": end} | ({"days": days} if days else {}))


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        ("2026-11-27T21:59:59+01:00", False),
        ("2026-11-27T22:00:00+01:00", True),
        ("2026-11-28T05:59:59+01:00", True),
        ("2026-11-28T06:00:00+01:00", False),
        ("2026-11-28T23:00:00+01:00", False),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(at: str, holds: bool) -> None:
    """27 November 2026 is a Friday."""
    assert (hours("22:00", "06:00", "fri").holding(unix(at), BERLIN) is not None) is holds


@pytest.mark.parametrize(
    ("day", "length"), [("2026-03-28", 7), ("2026-03-27", 8), ("2026-10-24", 9), ("2026-10-25", 8)]
)
def test_nights_in_which_the_clock_is_moved_are_an_hour_shorter_or_longer(day: str, length: int) -> None:
    found = hours("22:00", "06:00").interval(date.fromisoformat(day), BERLIN)
    assert found is not None
    assert (found[1] - found[0]) / 3600 == length


def test_whole_days_have_23_24_and_25_hours() -> None:
    days = [hours("00:00", "00:00").interval(date(2026, *day), BERLIN) for day in ((3, 29), (6, 1), (10, 25))]
    assert [(end - start) / 3600 for start, end in filter(None, days)] == [23, 24, 25]


def test_a_time_that_is_skipped_is_the_moment_of_the_step() -> None:
    found = hours("02:30", "04:00").interval(date(2026, 3, 29), BERLIN)
    assert found is not None
    assert [datetime.fromtimestamp(each, UTC).isoformat() for each in found] == [
        "2026-03-29T01:00:00+00:00",
        "2026-03-29T02:00:00+00:00",
    ]


def test_an_hour_that_comes_twice_is_held_from_its_first_to_its_second_end() -> None:
    found = hours("02:00", "03:00").interval(date(2026, 10, 25), BERLIN)
    assert found is not None
    assert found[1] - found[0] == 2 * 3600


def test_hours_that_ended() -> None:
    night = hours("22:00", "06:00", "mon", "tue")
    ended = night.ended(unix("2026-11-23T00:00:00+01:00"), unix("2026-11-29T00:00:00+01:00"), BERLIN)
    assert [datetime.fromtimestamp(end, UTC).isoformat() for _, end in ended] == [
        "2026-11-24T05:00:00+00:00",
        "2026-11-25T05:00:00+00:00",
    ]


@pytest.mark.parametrize("wrong", ["25:00", "8", "8 pm", True, -5])
def test_what_is_no_time_of_day(wrong: object) -> None:
    with pytest.raises(ValidationError, match="22:00"):
        Hours.model_validate({"from": wrong})
