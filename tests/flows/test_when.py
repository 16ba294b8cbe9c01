from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer

from flows.cli.when import moment, read_moment

NOW = datetime(2026, 3, 1, 15, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-02-27", datetime(2026, 2, 27, tzinfo=UTC)),
        ("2026-02-27T14:05", datetime(2026, 2, 27, 14, 5, tzinfo=UTC)),
        ("2026-02-27 14:05:30", datetime(2026, 2, 27, 14, 5, 30, tzinfo=UTC)),
        ("2026-02-27T14:05Z", datetime(2026, 2, 27, 14, 5, tzinfo=UTC)),
        ("2026-02-27T14:05+01:00", datetime(2026, 2, 27, 14, 5, tzinfo=timezone(timedelta(hours=1)))),
        ("now", NOW),
        ("today", datetime(2026, 3, 1, tzinfo=UTC)),
        (" Yesterday ", datetime(2026, 2, 28, tzinfo=UTC)),
        ("tomorrow", datetime(2026, 3, 2, tzinfo=UTC)),
        ("90m", NOW - timedelta(minutes=90)),
        ("36h", NOW - timedelta(hours=36)),
        ("7 days ago", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(days=14)),
    ],
)
def test_times_are_written_as_people_do(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "lately", "21.11.2026", "7", "7 months", "999999w", "-3d", "2026-02-30", "٣d"])
def test_what_is_no_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"2026-11-21.*yesterday.*7d"):
        moment(text, NOW)


def test_days_are_those_of_the_place() -> None:
    """At 15:30 UTC it is tomorrow in Auckland; the day that the clock is set forward begins an hour before it ends."""
    assert read_moment("today", "Pacific/Auckland", NOW) == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert read_moment("2026-03-29", "Europe/Berlin") == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert read_moment("2026-03-30", "Europe/Berlin") == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert read_moment("2026-02-27T14:05", "Europe/Berlin") == datetime(2026, 2, 27, 13, 5, tzinfo=UTC)
    assert read_moment("2026-02-27T14:05Z", "Europe/Berlin") == datetime(2026, 2, 27, 14, 5, tzinfo=UTC)
