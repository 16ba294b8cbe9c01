"""One Result from what the stages left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.core.damage import lost_seconds
from tasks.core.publish.joints import join_text, join_windows, uncovered_gaps
from tasks.core.schema import (
    ArtifactRef,
    Damage,
    Detections,
    FrameDetections,
    Heard,
    HeardChannel,
    HeardWindow,
    MediaInfo,
    StageTiming,
    Transcript,
)


def checked(info: MediaInfo, heard: Heard) -> MediaInfo:
    """What probe found in the packets with what decoding the sound has shown: of sound alone that length counts."""
    damage = sorted([*info.damage, *_news(info.damage, heard.damage)], key=lambda one: one.start)
    update: dict[str, Any] = {"damaged": info.damaged or bool(damage), "damage": damage, "lost_s": lost_seconds(damage)}
    if heard.notice:
        update["notices"] = [*info.notices, heard.notice]
    if info.video is None:
        update["duration_s"] = heard.duration_s
    return info.model_copy(update=update)


def _news(known: Sequence[Damage], found: Sequence[Damage]) -> list[Damage]:
    """Damage that is not part of what is known already."""
    return [one for one in found if not any(k.start - 1 <= one.start and one.end <= k.end + 1 for k in known)]


def transcript(
    batches: Iterable[Sequence[HeardWindow]],
    language: str | None,
    *,
    language_checked: bool = True,
    words: bool = False,
    channels: Sequence[HeardChannel] = (),
) -> Transcript:
    """All windows in order of time: segments numbered from 0, their text in one string, and what has no text.

    What windows share is joined on its words; words are kept where `words`.
    """
    windows = sorted((window for batch in batches for window in batch), key=lambda heard: heard.window.start)
    ordered = sorted(join_windows(windows, language), key=lambda segment: (segment.start, segment.end))
    segments = [
        segment.model_copy(update={"id": number} | ({} if words else {"words": None}))
        for number, segment in enumerate(ordered)
    ]
    return Transcript(
        language=language,
        language_checked=language_checked,
        text=join_text([segment.text.strip() for segment in segments], language),
        segments=segments,
        gaps=uncovered_gaps(windows),
        dropped=sum(heard.dropped for heard in windows),
        channels=list(channels),
    )


def unsure_share(said: Transcript) -> float:
    """Share of the speech, 0 to 1, whose text failed every temperature or that has no text."""
    sure = sum(segment.end - segment.start for segment in said.segments if not segment.unsure)
    unsure = sum(segment.end - segment.start for segment in said.segments if segment.unsure)
    return (unsure + said.gaps_s) / max(sure + unsure + said.gaps_s, 1e-9)


def detections(batches: Iterable[Sequence[FrameDetections]], sample_fps: float | None) -> Detections:
    """The batches' frames in order of time, numbered from 0, and the boxes of each class counted."""
    ordered = sorted((frame for batch in batches for frame in batch), key=lambda frame: frame.time)
    frames = [frame.model_copy(update={"index": number}) for number, frame in enumerate(ordered)]
    counts = Counter(box.class_ for frame in frames for box in frame.boxes)
    return Detections(
        frames_sampled=len(frames), sample_fps=sample_fps, classes=dict(counts.most_common()), frames=frames
    )


def stage_timings(refs: Iterable[ArtifactRef]) -> dict[str, StageTiming]:
    """Each stage's task runs summed, in the order in which stages first appear."""
    grouped: dict[str, list[ArtifactRef]] = {}
    for ref in refs:
        grouped.setdefault(ref.stage, []).append(ref)
    return {stage: _sum(group) for stage, group in grouped.items()}


def _sum(refs: list[ArtifactRef]) -> StageTiming:
    timings = [ref.timing for ref in refs]
    return StageTiming(
        wall_s=sum(t.wall_s for t in timings),
        cpu_s=sum(t.cpu_s for t in timings),
        gpu_s=sum(t.gpu_s for t in timings),
        queue_s=sum(t.queue_s for t in timings),
        bytes_in=sum(t.bytes_in for t in timings),
        bytes_out=sum(t.bytes_out for t in timings),
        runs=sum(t.runs for t in timings),
        cached=all(ref.cached for ref in refs),
    )
