from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer

from flows.when import moment

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
