"""What is stored of tracking: the window as it was looked at, the objects in it, and the state for the next window.

Times are Unix seconds, boxes parts of the frame's width and height, so that a camera may change its size.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from pydantic import Field

from tasks.core.schema import FrameDetections, Record

VERSION: Final = 1
"""Of the rules in match.py and track.py; what was tracked by older ones stands."""

_WINDOW: Final = re.compile(
    r"(?:^|/)camera=(?P<camera>[^/]+)/(?:[^/]+/)*"
    r"(?P<stamp>(?P<moment>\d{8}T\d{6})(?:\.(?P<fraction>\d{1,6}))?Z)(?:-(?P<sequence>\d+))?\.[A-Za-z0-9]+$"
)

Place = tuple[float, float, float, float]
"""x1, y1, x2, y2 as parts of the frame's width and height."""


class WindowName(Record):
    """What the key of a window says: `camera=gate/2026/11/21/20261121T140500.250Z-00000042.mp4`."""

    camera: str
    start: float
    sequence: int | None
    """Counts the camera's windows, where the name says it."""
    label: str
    """Start and sequence as they stand in the key; labels of one camera sort by time."""


def window_name(key: str) -> WindowName | None:
    """None for what is no window of a camera."""
    found = _WINDOW.search(key)
    if found is None:
        return None
    try:
        moment = datetime.strptime(found["moment"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    sequence = found["sequence"]
    return WindowName(
        camera=unquote(found["camera"]),
        start=moment.timestamp() + float(f"0.{found['fraction'] or 0}"),
        sequence=int(sequence) if sequence else None,
        label=found["stamp"] + (f"-{int(sequence):012d}" if sequence else ""),
    )


class Window(Record):
    """One window of a camera with what was detected in it."""

    camera: str
    label: str
    start: float
    duration_s: float
    source: str
    media_id: str | None
    """None where nothing could be looked at: the window was set aside as bad, or never came."""
    result_key: str | None = None
    sample_fps: float | None = None
    width: int = 1
    height: int = 1
    """Of the frames that the boxes are pixels of."""
    frames: list[FrameDetections] = Field(default_factory=list)


class Sight(Record):
    """An object in one sampled frame."""

    time: float
    place: Place
    class_: str = Field(alias="class")
    confidence: float
    media_id: str
    media_time: float
    """Seconds into that media."""

    @property
    def foot(self) -> tuple[float, float]:
        """Bottom centre: where it stands."""
        return (self.place[0] + self.place[2]) / 2, self.place[3]


class PathPoint(Record):
    time: float
    x: float
    y: float
    """Of the bottom centre."""


class Track(Record):
    """An object that is followed."""

    visit: str | None = None
    """Its id, from the moment that it was seen often enough to be no flicker."""
    first: Sight
    last: Sight
    best: Sight
    """Its largest and surest picture."""
    seen: int
    """Sampled frames with it."""
    votes: dict[str, float]
    """Sum of confidences by class."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Of the centre, parts of the frame per second, smoothed."""
    anchor: Place
    """Where it came to rest."""
    still_since: float
    """Since when it has not left that place."""
    unseen_s: float = 0.0
    """Seconds that were looked at without seeing it."""
    blind_s: float = 0.0
    """Seconds since it was seen that nobody looked at."""
    path: list[PathPoint] = Field(default_factory=list)
    path_step_s: float = 0.2
    pending: list[Sight] = Field(default_factory=list)
    """What was seen of it before it got an id."""

    @property
    def class_(self) -> str:
        """By vote; the first in the alphabet of those with equal votes."""
        return min(self.votes, key=lambda name: (-self.votes[name], name))

    @property
    def still_s(self) -> float:
        return self.last.time - self.still_since


class Visit(Record):
    """One object from its coming to its going, as far as it is known."""

    visit: str
    camera: str
    class_: str = Field(alias="class")
    start: float
    end: float
    ended: bool
    frames: int
    path: list[PathPoint]
    best: Sight
    still_s: float
    """How long it had rested when it was last seen."""

    @property
    def dwell_s(self) -> float:
        return self.end - self.start


class Seen(Record):
    """What one window shows of one visit."""

    visit: str
    sights: list[Sight]
    """In order; those from before it got its id may lie in earlier windows."""


class State(Record):
    """What a window leaves to the next."""

    camera: str
    time: float = 0.0
    """Of the last sampled frame; 0 before the first."""
    tracks: list[Track] = Field(default_factory=list)


class TrackedWindow(Record):
    """The stored record of a window: made once, never rewritten."""

    version: int = VERSION
    window: Window
    """Without its frames."""
    previous: str | None
    """Digest of the record of the window before, whose state this one was made from; None for a camera's first."""
    times: list[float]
    """Of the sampled frames."""
    seen: list[Seen]
    visits: list[Visit]
    """Those that this window shows, began or ended, as they stood at its end."""
    state: State
