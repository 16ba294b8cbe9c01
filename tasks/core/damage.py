"""What of a media is lost, from what its packets tell: a tail that is missing, gaps, packets of nothing but zeros."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tasks.core.schema import Damage
from tasks.core.timeline import TimeLine

EXACT_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "mp3", "flac", "wav"})
"""Their headers state durations to the sample, without encoder padding; elsewhere packets are nearer to the truth."""
UNBROKEN = frozenset({"mpegts", "mpeg", "ogg", "flac", "aac", "mp3", "ac3", "eac3"})
"""Containers whose sound has no pauses: where packets are missing, they were lost."""
STREAMED = frozenset({"flv", "mpegts", "mpeg"})
"""Containers that hold nothing of size behind their last packet."""
UNREAD_SHARE = 0.02
"""Bytes behind the last packet that need no reason."""
TOUCH_S = 0.5
"""Lost stretches of one stream so near to each other are one."""
PADDING_S = 0.1
"""What a decoder needs before the first sample and after the last, and no one hears."""
SHORT_S, INEXACT_SHORT_S = 0.25, 1.0
"""A file that ends so much earlier than its header says is cut; the second where headers state about the length."""


Stretch = tuple[float, float, Any, Any]
"""Start, end, kind and stream, as in Damage."""


def declared_end(stream: dict[str, Any], container: str) -> float | None:
    """Container time at which the header says that the stream ends, where headers are exact about it."""
    if container not in EXACT_CONTAINERS or not stream["declared_duration"]:
        return None
    return _stated_end(stream["declared_start"] or 0.0, float(stream["declared_duration"]), stream["end"])


def _stated_end(start: float, duration: float, measured: float) -> float:
    """Some headers count the time before the start into the duration: the reading that is nearer to the packets."""
    return min((end for end in (start + duration, duration) if end > start), key=lambda end: abs(end - measured))


def find_damage(
    facts: dict[str, Any], used: Sequence[dict[str, Any]], line: TimeLine, end_s: float, size: int
) -> list[Damage]:
    """Lost stretches of the streams that are analysed, in media time; `end_s` is the media's end, `size` its bytes."""
    found = [
        Damage(start=s, end=e, lost_s=e - s, kind=k, stream=of) for s, e, k, of in _joined(_inside(facts, used, line))
    ]
    for stream in used:
        for at, lost_s in stream["holes"]:
            shift_s = line.shifts[stream["index"], stream["runs"][0]["packet"]]
            place = max(0.0, at - shift_s)
            found.append(Damage(start=place, end=place, lost_s=lost_s, kind="missing", stream=stream["kind"]))
    return sorted([*found, *_tail(facts, used, line, end_s, size)], key=lambda damage: damage.start)


def _inside(facts: dict[str, Any], used: Sequence[dict[str, Any]], line: TimeLine) -> list[Stretch]:
    """What is missing or ruined within the streams."""
    container = facts["container"]
    found: list[Stretch] = []
    for stream in used:
        fragments = (
            container == "mov,mp4,m4a,3gp,3g2,mj2" and not stream["frames"]
        )  # those have no durations to pause by
        unbroken = container in UNBROKEN or facts["lossy"] or fragments
        for run in stream["runs"]:
            shift_s = line.shifts[stream["index"], run["packet"]]
            stretches = [("undecodable", run["ruined"]), ("missing", run["gaps"] if unbroken else [])]
            for kind, pairs in stretches:
                found += [(max(0.0, s - shift_s), max(0.0, e - shift_s), kind, stream["kind"]) for s, e in pairs]
    return found


def _joined(found: Sequence[Stretch]) -> list[Stretch]:
    """In order of time, those of one stream and kind that overlap or nearly touch as one."""
    joined: list[Stretch] = []
    for start, end, kind, of in sorted(found, key=lambda stretch: (stretch[3], stretch[2], stretch[0])):
        if joined and joined[-1][2:] == (kind, of) and start - joined[-1][1] <= TOUCH_S:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end), kind, of)
        else:
            joined.append((start, end, kind, of))
    return joined


def _tail(
    facts: dict[str, Any], used: Sequence[dict[str, Any]], line: TimeLine, end_s: float, size: int
) -> list[Damage]:
    """What the headers promise behind the end of the file."""
    if lost_s := facts["tail_lost_s"]:
        return [Damage(start=end_s, end=end_s + lost_s, lost_s=lost_s, kind="cut_short")]
    lost: list[Damage] = []
    for stream in used:
        stated = None if line.takes else declared_end(stream, facts["container"])
        in_holes_s = sum(lost_s for _, lost_s in stream["holes"])
        short_s = max(
            stream["unread"],
            0.0 if stated is None else stated - stream["end"] - in_holes_s,
            _frames_short(facts, stream),
        )
        if short_s > SHORT_S or (facts["cut"] and short_s > PADDING_S):
            start = stream["end"] - line.start_offset_s
            lost.append(
                Damage(start=start, end=start + short_s, lost_s=short_s, kind="cut_short", stream=stream["kind"])
            )
    if lost:
        return lost
    start, stated = line.start_offset_s, facts["declared_end"]
    if stated is not None and stated > start and not line.takes and facts["container"] not in EXACT_CONTAINERS:
        short_s = _stated_end(start, stated - start, start + end_s) - (start + end_s)
        if short_s > INEXACT_SHORT_S:
            return [Damage(start=end_s, end=end_s + short_s, lost_s=short_s, kind="cut_short")]
    unread_s = _unread_seconds(facts, end_s, size)
    if unread_s > INEXACT_SHORT_S:
        return [Damage(start=end_s, end=end_s + unread_s, lost_s=unread_s, kind="undecodable")]
    return [Damage(start=end_s, end=end_s, lost_s=0.0, kind="cut_short")] if facts["cut"] else []


def _frames_short(facts: dict[str, Any], stream: dict[str, Any]) -> float:
    """Seconds of the frames that a cut file's header counts and that are not there."""
    rate, frames = stream.get("mean_rate"), stream["frames"]
    return float((frames - stream["packets"]) / rate) if facts["cut"] and rate and frames else 0.0


def _unread_seconds(facts: dict[str, Any], end_s: float, size: int) -> float:
    """Media time of the bytes behind the last packet, at the rate of those before it; elsewhere they are an index."""
    left = facts["left"]
    reads_all = facts["container"] in STREAMED or (facts["container"] == "ogg" and facts["lossy"])
    return float(end_s * left / (size - left)) if reads_all and 0 < UNREAD_SHARE * size < left < size else 0.0


def lost_seconds(damage: Sequence[Damage]) -> float:
    """Of the stream that has lost most."""
    by_stream: dict[str | None, float] = defaultdict(float)
    for one in damage:
        by_stream[one.stream] += one.lost_s
    everything = by_stream.pop(None, 0.0)
    return everything + max(by_stream.values(), default=0.0)
