"""Made-up windows: objects with known ways, seen by a detector that is known to fail where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.core.schema import Box, FrameDetections
from tasks.core.tracking.records import State, TrackedWindow, Visit, Window
from tasks.core.tracking.track import follow

WIDTH, HEIGHT = 640, 360
START = 1_760_000_000.0
Where = Callable[[float], tuple[float, float, float, float] | None]
"""Time to a box in pixels, None where it is not there."""


def walker(begin: float, end: float, *, speed: float = 60.0, x: float = 0.0, y: float = 120.0) -> Where:
    """A person of 60 x 180 pixels that goes right from `begin` to `end`, `speed` pixels a second."""
    return lambda t: (x + speed * (t - begin), y, x + speed * (t - begin) + 60, y + 180) if begin <= t < end else None


def parked(x: float = 400.0, y: float = 200.0) -> Where:
    return lambda t: (x, y, x + 120, y + 70)


def frame(index: int, media_time: float, boxes: Iterable[tuple[str, float, tuple[float, ...]]]) -> FrameDetections:
    found = [Box.model_validate({"xyxy": place, "class": name, "confidence": sure}) for name, sure, place in boxes]
    return FrameDetections(index=index, time=media_time, boxes=found)


def windows(
    objects: dict[str, list[Where]],
    *,
    until: float,
    fps: float = 5.0,
    length: float = 3.0,
    absent: tuple[float, float] = (-1.0, -1.0),
    missed: Callable[[str, float], bool] = lambda name, time: False,
    confidence: float = 0.8,
) -> list[Window]:
    """Windows of a camera from time 0; none that begins while the stream is `absent`."""
    made = []
    for number in range(round(until / length)):
        begin = number * length
        if absent[0] <= begin < absent[1]:
            continue
        frames = []
        for index in range(round(length * fps)):
            t = begin + index / fps
            boxes = [
                (name, confidence, place)
                for name, ways in objects.items()
                for way in ways
                if (place := way(t)) is not None and not missed(name, t)
            ]
            frames.append(frame(index, index / fps, boxes))
        made.append(
            Window(
                camera="gate",
                label=f"{number:08d}",
                start=START + begin,
                duration_s=length,
                source=f"{number}.mp4",
                media_id=f"{number:032x}",
                sample_fps=fps,
                width=WIDTH,
                height=HEIGHT,
                frames=frames,
            )
        )
    return made


def track(made: Iterable[Window], state: State | None = None) -> list[TrackedWindow]:
    """Each window from the stored form of the state before it, as after a restart."""
    found = []
    for window in made:
        tracked = follow(window, state, None)
        tracked = TrackedWindow.model_validate_json(tracked.model_dump_json(by_alias=True))
        state = tracked.state
        found.append(tracked)
    return found


def visits(tracked: Iterable[TrackedWindow]) -> list[Visit]:
    """The last word on each visit, in order of coming."""
    last = {visit.visit: visit for window in tracked for visit in window.visits}
    return sorted(last.values(), key=lambda visit: visit.start)
