"""One Result from what the stages left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.core.damage import lost_seconds
from tasks.core.schema import (
    ArtifactRef,
    Damage,
    Detections,
    FrameDetections,
    Heard,
    MediaInfo,
    Segment,
    StageTiming,
    Transcript,
)

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Written without spaces between words (whisper.tokenizer.split_to_word_tokens)."""


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


def transcript(batches: Iterable[Sequence[Segment]], language: str | None) -> Transcript:
    """The batches' segments in order of time, numbered from 0, and their text in one string."""
    ordered = sorted(
        (segment for batch in batches for segment in batch), key=lambda segment: (segment.start, segment.end)
    )
    segments = [segment.model_copy(update={"id": number}) for number, segment in enumerate(ordered)]
    text = join_text([segment.text.strip() for segment in segments], language)
    return Transcript(language=language, text=text, segments=segments)


def join_text(texts: Sequence[str], language: str | None) -> str:
    """One text from those of segments: with spaces, except in languages written without them."""
    return ("" if language in UNSPACED_LANGUAGES else " ").join(text for text in texts if text)


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
