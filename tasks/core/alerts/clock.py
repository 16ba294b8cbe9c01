"""Hours and days of a rule, in the zone of the place: over midnight, and over the days that have 23 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from tasks.core.options import Section

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(value: Any) -> Any:
    """YAML 1.1 reads 22:00 without quotes as 1320, minutes of a day."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str):
        try:
            found = datetime.strptime("00:00" if value == "24:00" else value, "%H:%M")
        except ValueError:
            raise ValueError("write a time of day as 22:00") from None
        return found.time()
    if isinstance(value, time):
        return value
    raise ValueError("write a time of day as 22:00")


def _zone(value: str) -> str:
    try:
        zone(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is no time zone; write one as Europe/Berlin or UTC") from None
    return value


TimeOfDay = Annotated[time, BeforeValidator(_clock)]
TimeZone = Annotated[str, AfterValidator(_zone)]


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


class Hours(Section):
    """From a time of day until another, on some days; `22:00` to `06:00` belongs to the day on which it begins."""

    model_config = ConfigDict(populate_by_name=True)

    start: TimeOfDay = Field(time(0), alias="from", description="Time of day, 22:00")
    end: TimeOfDay = Field(time(0), alias="to", description="Time of day; the same as `from`: a whole day")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        DAYS, min_length=1, description="Days on which it begins"
    )

    def interval(self, day: date, timezone: str) -> tuple[float, float] | None:
        """Unix times at which the hours of a local day begin and end; None on other days.

        A time that the clock skips is the moment after the step; of one that comes twice the first counts as begin
        and the second as end.
        """
        if DAYS[day.weekday()] not in self.days:
            return None
        last = day + timedelta(days=1) if self.end <= self.start else day
        return unix_of(day, self.start, timezone, fold=0), unix_of(last, self.end, timezone, fold=1)

    def holding(self, at: float, timezone: str) -> tuple[float, float] | None:
        """The interval that this moment is in."""
        today = datetime.fromtimestamp(at, zone(timezone)).date()
        for day in (today - timedelta(days=1), today):
            found = self.interval(day, timezone)
            if found and found[0] <= at < found[1]:
                return found
        return None

    def ended(self, since: float, until: float, timezone: str) -> list[tuple[float, float]]:
        """The intervals that ended in (since, until], in order."""
        day = datetime.fromtimestamp(since, zone(timezone)).date() - timedelta(days=1)
        last = datetime.fromtimestamp(until, zone(timezone)).date()
        found = []
        while day <= last:
            interval = self.interval(day, timezone)
            if interval and since < interval[1] <= until:
                found.append(interval)
            day += timedelta(days=1)
        return found


def unix_of(day: date, at: time, timezone: str, *, fold: int = 0) -> float:
    """Unix time of a local time; `fold` 1: the second of two. One in a skipped hour becomes the moment of the step."""
    place = zone(timezone)
    local = datetime.combine(day, at.replace(fold=fold), tzinfo=place)
    unix = local.timestamp()
    back = datetime.fromtimestamp(unix, place).replace(tzinfo=None)
    if back == local.replace(tzinfo=None, fold=0):
        return unix
    low = datetime.combine(day, at.replace(fold=1), tzinfo=place).timestamp()
    high = datetime.combine(day, at.replace(fold=0), tzinfo=place).timestamp()
    low, high = min(low, high), max(low, high)
    before = datetime.fromtimestamp(low, place).utcoffset()
    while high - low > 1:  # the step lies between the two readings of a time that never was
        middle = (low + high) // 2
        low, high = (middle, high) if datetime.fromtimestamp(middle, place).utcoffset() == before else (low, middle)
    return datetime.fromtimestamp(high, UTC).timestamp()
