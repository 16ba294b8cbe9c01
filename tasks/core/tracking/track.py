"""Follows the objects of one window, from the state that the window before it left."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Final

from tasks.core.schema import Box
from tasks.core.tracking.match import assign, iou, without_doubles
from tasks.core.tracking.records import (
    PathPoint,
    Place,
    Seen,
    Sight,
    State,
    Track,
    TrackedWindow,
    Visit,
    Window,
)

BEGIN_CONFIDENCE: Final = 0.4
"""A box begins an object from this confidence on; less sure ones only continue what is there."""
CONFIRM: Final = 3
"""Sampled frames that make an object a visit: a flicker is none."""
LOST_S: Final = 3.0
"""An object that was looked for as long and not seen has gone. Time that nobody looked at does not count."""
LEAVING_LOST_S: Final = 1.0
"""The same for one that was last seen at the edge of the picture."""
FLICKER_LOST_S: Final = 1.0
"""The same for what is no visit yet."""
EDGE: Final = 0.01
"""Parts of the frame."""
REMEMBER_S: Final = 3600.0
"""An object at rest is looked for as long as it has rested, at most so long: a parked car behind a bus, at night."""
REST_IOU: Final = 0.6
"""Boxes that overlap so much with where an object came to rest show it at rest."""
AT_REST_S: Final = 5.0
"""What has not moved for as long is at rest; when it was lost, only a box in that place can be it."""
BLIND_S: Final = 60.0
"""Without any look for longer, what moved has gone."""
BLIND_REST_S: Final = 12 * 3600.0
"""The same for what was at rest."""
GAP: Final = 2.5
"""Intervals of sampling from which on nobody looked."""
LEAST_GAP_S: Final = 1.5
KEY_FRAMES_S: Final = 12.0
"""Interval of sampling where only key frames are: cameras send one in 1 to 10 s."""
SMOOTH: Final = 0.5
"""Weight of the newest velocity."""
MOST_POINTS: Final = 32
"""Points of a path; a longer one is thinned to half."""


def follow(window: Window, state: State | None, previous: str | None) -> TrackedWindow:
    """The window's objects and the state for the next. `previous` is the digest of what `state` was stored in.

    Frames of a time that was looked at already are passed over. Raises ValueError for another camera's window.
    """
    state = state or State(camera=window.camera)
    if window.camera != state.camera:
        raise ValueError(f"{window.source} is a window of {window.camera}, the state is one of {state.camera}")
    tracks, time = list(state.tracks), state.time
    seen: dict[str, list[Sight]] = {}
    gone: list[Track] = []
    times: list[float] = []
    every_s = 1 / window.sample_fps if window.sample_fps else KEY_FRAMES_S
    for frame in window.frames:
        now = round(window.start + frame.time, 3)
        if time and now <= time:
            continue  # windows overlap where a camera's clock was corrected
        step = now - time if time else 0.0
        blind = step if step > max(GAP * every_s, LEAST_GAP_S) else 0.0
        waited = [_waited(track, step, blind) for track in tracks]
        gone += [track for track in waited if _is_gone(track, every_s)]
        tracks = [track for track in waited if not _is_gone(track, every_s)]
        sights = without_doubles(_sights(window, frame.boxes, now, frame.time))
        pairs = assign(tracks, sights, now, window.width / window.height)
        pairs = {row: column for row, column in pairs.items() if _may_be(tracks[row], sights[column])}
        kept: list[Track] = []
        for row, track in enumerate(tracks):
            if row in pairs:
                sight = sights[pairs[row]]
                track = _continued(track, sight, window)
                if track.visit:
                    seen.setdefault(track.visit, []).extend([*track.pending, sight])
                    track = track.model_copy(update={"pending": []})
                kept.append(track)
            else:
                kept.append(track)
        taken = set(pairs.values())
        kept += [
            _begun(sight)
            for number, sight in enumerate(sights)
            if number not in taken and sight.confidence >= BEGIN_CONFIDENCE
        ]
        tracks, time = kept, now
        times.append(now)
    visits = [_visit(window.camera, track, ended=True) for track in gone if track.visit]
    visits += [_visit(window.camera, track, ended=False) for track in tracks if track.visit in seen]
    return TrackedWindow(
        window=window.model_copy(update={"frames": []}),
        previous=previous,
        times=times,
        seen=[Seen(visit=visit, sights=sights) for visit, sights in sorted(seen.items())],
        visits=sorted(visits, key=lambda each: (each.start, each.visit)),
        state=State(camera=window.camera, time=time, tracks=tracks),
    )


def visit_id(camera: str, first: Sight) -> str:
    """16 hex digits, of where and when it was first seen: the same however often the window is tracked."""
    text = json.dumps([camera, round(first.time * 1000), [round(each, 3) for each in first.place]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sights(window: Window, boxes: Iterable[Box], now: float, media_time: float) -> list[Sight]:
    found = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        place = (
            round(x1 / window.width, 5),
            round(y1 / window.height, 5),
            round(x2 / window.width, 5),
            round(y2 / window.height, 5),
        )
        if all(map(math.isfinite, place)) and place[2] > place[0] and place[3] > place[1]:
            found.append(
                Sight.model_validate(
                    {
                        "time": now,
                        "place": place,
                        "class": box.class_,
                        "confidence": round(box.confidence, 4),
                        "media_id": window.media_id or "",
                        "media_time": media_time,
                    }
                )
            )
    return found


def _waited(track: Track, step: float, blind: float) -> Track:
    change = {"blind_s": track.blind_s + blind} if blind else {"unseen_s": track.unseen_s + step}
    return track.model_copy(update=change)


def _may_be(track: Track, sight: Sight) -> bool:
    """Was it lost in motion, or is the sight where it rested?"""
    lost_at_rest = track.unseen_s + track.blind_s > LOST_S and track.still_s >= AT_REST_S
    return not lost_at_rest or iou(track.anchor, sight.place) >= REST_IOU


def _is_gone(track: Track, every_s: float) -> bool:
    """Has it not been seen for longer than it is waited for? Two looks are waited for at least."""
    least = 1.5 * every_s
    if track.visit is None:
        return track.unseen_s > max(FLICKER_LOST_S, least) or track.blind_s > LOST_S
    rested = track.still_s if track.still_s >= AT_REST_S else 0.0
    if track.blind_s > (BLIND_REST_S if rested else BLIND_S):
        return True
    edge = min(track.last.place[0], track.last.place[1], 1 - track.last.place[2], 1 - track.last.place[3]) < EDGE
    patience = LEAVING_LOST_S if edge and not rested else LOST_S
    return track.unseen_s > max(patience, least, min(rested, REMEMBER_S))


def _begun(sight: Sight) -> Track:
    return Track(
        first=sight,
        last=sight,
        best=sight,
        seen=1,
        votes={sight.class_: sight.confidence},
        anchor=sight.place,
        still_since=sight.time,
        path=[_point(sight)],
        pending=[sight],
    )


def _continued(track: Track, sight: Sight, window: Window) -> Track:
    before, step = track.last, max(1e-3, sight.time - track.last.time)
    speed = tuple((_centre(sight.place)[axis] - _centre(before.place)[axis]) / step for axis in (0, 1))
    rests = iou(track.anchor, sight.place) >= REST_IOU
    seen = track.seen + 1
    path, path_step_s = track.path, track.path_step_s
    if sight.time - path[-1].time >= path_step_s - 1e-6:
        path = [*path, _point(sight)]
        if len(path) > MOST_POINTS:
            path, path_step_s = path[::2], path_step_s * 2
    return track.model_copy(
        update={
            "visit": track.visit or (visit_id(window.camera, track.first) if seen >= CONFIRM else None),
            "last": sight,
            "best": sight if _worth(sight) > _worth(track.best) else track.best,
            "seen": seen,
            "votes": track.votes | {sight.class_: round(track.votes.get(sight.class_, 0.0) + sight.confidence, 4)},
            "velocity": tuple(
                round(SMOOTH * new + (1 - SMOOTH) * old, 5) for new, old in zip(speed, track.velocity, strict=True)
            )
            if not track.blind_s
            else (0.0, 0.0),
            "anchor": track.anchor if rests else sight.place,
            "still_since": track.still_since if rests else sight.time,
            "unseen_s": 0.0,
            "blind_s": 0.0,
            "path": path,
            "path_step_s": path_step_s,
            "pending": track.pending if seen >= CONFIRM else [*track.pending, sight],
        }
    )


def _visit(camera: str, track: Track, *, ended: bool) -> Visit:
    last = track.last
    path = track.path if track.path[-1].time == last.time else [*track.path, _point(last)]
    return Visit.model_validate(
        {
            "visit": track.visit,
            "camera": camera,
            "class": track.class_,
            "start": track.first.time,
            "end": last.time,
            "ended": ended,
            "frames": track.seen,
            "path": path,
            "best": track.best,
            "still_s": round(track.still_s, 3),
        }
    )


def _worth(sight: Sight) -> float:
    x1, y1, x2, y2 = sight.place
    return sight.confidence * math.sqrt((x2 - x1) * (y2 - y1))


def _point(sight: Sight) -> PathPoint:
    x, y = sight.foot
    return PathPoint(time=sight.time, x=round(x, 4), y=round(y, 4))


def _centre(place: Place) -> tuple[float, float]:
    return (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
