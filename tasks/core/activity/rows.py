"""What a report is made of and what it comes to; times are Unix seconds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.activity.period import Period
from tasks.core.schema import Record


class WindowRow(Record):
    """One window of a camera: a line of the log."""

    camera: str
    start: float
    duration_s: float
    """Exact, by its container's clock; of what was not analysed, what its recorder says of it."""
    state: Literal["analysed", "set_aside", "waiting"]
    """waiting: no run of it has ended yet."""
    link: str
    """Where the media lies: a path, s3:// or https://, without secrets."""
    media_id: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    audio_codec: str | None = None
    channels: int | None = None
    """Of the sound; None where there is none."""
    sample_rate: int | None = None
    bytes: int | None = None
    frames_sampled: int = 0
    boxes: int = 0
    speech_s: float = 0.0
    words: int = 0
    scenes: int = 0
    lag_s: float | None = None
    """From when it was in the bucket until its result was committed, where a watcher analysed it."""
    cost_usd: float = 0.0
    reason: str = ""
    """Why it was set aside."""

    @property
    def end(self) -> float:
        return self.start + self.duration_s


class VisitRow(Record):
    """One visit, as far as it lies in the period."""

    camera: str
    visit: str
    class_: str = Field(alias="class")
    start: float
    end: float
    dwell_s: float
    """Seconds of it that lie in the period."""
    lasts: bool
    """It goes on after the period, or was not over when the report was made."""
    frames: int
    """Sampled frames of the whole visit that show it."""


class AlertRow(Record):
    id: str
    rule: str
    camera: str
    time: float
    classes: tuple[str, ...]
    why: str
    visit: str
    link: str
    """The window, with the seconds to look at: SOURCE#t=1,11"""
    deliveries: dict[str, str]
    """State by target."""


class GapRow(Record):
    """A stretch of the period without windows."""

    camera: str
    start: float
    end: float
    cause: str
    lasts: bool
    """It has no end yet."""


class HealthRow(Record):
    """A stretch of the period in which something was wrong with a camera."""

    camera: str
    start: float
    end: float
    kind: str
    lasts: bool


class HourRow(Record):
    """A local hour of one camera."""

    camera: str
    start: float
    end: float
    visits: int = 0
    """Visits that begin in it."""
    alerts: int = 0
    windows: int = 0
    """Windows that begin in it."""
    recorded_s: float = 0.0
    speech_s: float = 0.0
    scenes: int = 0
    gap_s: float = 0.0
    cost_usd: float = 0.0


class ClassRow(Record):
    """A class of objects at one camera in a local hour."""

    camera: str
    start: float
    end: float
    class_: str = Field(alias="class")
    visits: int = 0
    """Visits that begin in it."""
    dwell_s: float = 0.0
    """Seconds of visits that lie in it, of several at the same time the sum."""
    boxes: int = 0
    frames: int = 0
    """Sampled frames that show one."""
    most: int = 0
    """In one frame."""


class CameraTotals(Record):
    """A camera over the whole period."""

    camera: str
    windows: int = 0
    analysed: int = 0
    waiting: int = 0
    set_aside: int = 0
    recorded_s: float = 0.0
    gap_s: float = 0.0
    unexplained_s: float = 0.0
    """Seconds without a window and without a row in the ledger of gaps."""
    visits: int = 0
    """Visits of which a part lies in the period, those that began before it too."""
    alerts: int = 0
    speech_s: float = 0.0
    words: int = 0
    scenes: int = 0
    lag_median_s: float | None = None
    lag_p95_s: float | None = None
    bytes: int = 0
    cost_usd: float = 0.0
    tracked_until: float | None = None
    """Until when its windows were followed; None where nobody did."""


class ClassTotals(Record):
    """A class of objects over the whole period and all cameras."""

    class_: str = Field(alias="class")
    visits: int = 0
    dwell_s: float = 0.0
    dwell_median_s: float | None = None
    dwell_longest_s: float | None = None
    boxes: int = 0
    frames: int = 0
    most: int = 0


class Activity(Record):
    """The report as data."""

    period: Period
    until: float
    """The period's end, or when the report was made, whatever comes first: nobody knows what lies behind."""
    made: float
    source: str
    """Recordings or store that it is about."""
    ledgers: bool
    """Whether recordings were given: without them neither gaps nor windows that wait are known."""
    cameras: list[CameraTotals]
    classes: list[ClassTotals]
    hours: list[HourRow]
    class_hours: list[ClassRow]
    windows: list[WindowRow]
    visits: list[VisitRow]
    alerts: list[AlertRow]
    gaps: list[GapRow]
    health: list[HealthRow]
    notices: list[str] = Field(default_factory=list)

    def total(self, field: str) -> float:
        """Sum over the cameras."""
        return float(sum(getattr(camera, field) for camera in self.cameras))
