"""Batches become one transcript, one list of frames and one sum of times."""

from __future__ import annotations

from tasks.core.publish import assemble
from tasks.core.schema import (
    ArtifactRef,
    Box,
    Damage,
    FrameDetections,
    Heard,
    HeardChannel,
    HeardWindow,
    MediaInfo,
    Segment,
    SpeechWindow,
    StageTiming,
    TranscriptGap,
    Word,
)


def _frame(index: int, time: float, *classes: str) -> FrameDetections:
    boxes = [Box(xyxy=(0, 0, 1, 1), class_=name, confidence=0.5) for name in classes]
    return FrameDetections(index=index, time=time, boxes=boxes)


def test_segments_are_numbered_over_all_batches() -> None:
    timed = [Word(start=5, end=6, text="later", probability=1)]
    late, early = (
        Segment(id=0, start=5, end=6, text="later ", words=timed),
        Segment(id=0, start=1, end=2, text=" sooner"),
    )
    gap = TranscriptGap(start=3, end=4, reason="nothing_heard")
    batches = [
        [HeardWindow(window=SpeechWindow(start=5, end=6), segments=[late], dropped=2)],
        [HeardWindow(window=SpeechWindow(start=0, end=4), segments=[early], gaps=[gap])],
        [],
    ]
    left = HeardChannel(start=0, end=6, channel="left", reason="its speech is lost in the mix")
    found = assemble.transcript(batches, "en", channels=[left])
    assert [(segment.id, segment.start, segment.words) for segment in found.segments] == [(0, 1, None), (1, 5, None)]
    assert (found.text, found.gaps, found.dropped, found.channels) == ("sooner later", [gap], 2, [left])
    assert assemble.transcript(batches, "en", words=True).segments[1].words == timed


def test_speech_without_sure_text_is_measured() -> None:
    sure, unsure = Segment(id=0, start=0, end=6, text="a"), Segment(id=1, start=6, end=8, text="b", unsure=True)
    gap = TranscriptGap(start=8, end=12, reason="unlikely")
    window = HeardWindow(window=SpeechWindow(start=0, end=12), segments=[sure, unsure], gaps=[gap])
    assert assemble.unsure_share(assemble.transcript([[window]], "en")) == 0.5
    assert assemble.unsure_share(assemble.transcript([], "en")) == 0


def test_boxes_are_counted_by_class_most_frequent_first() -> None:
    found = assemble.detections([[_frame(0, 0.0, "car")], [_frame(1, 1.0, "dog", "car"), _frame(2, 2.0)]], 1.0)
    assert list(found.classes.items()) == [("car", 2), ("dog", 1)]
    assert found.frames_sampled == 3
    assert assemble.detections([], None).frames == []


def test_a_stage_is_cached_only_if_all_its_runs_were() -> None:
    def ref(stage: str, cached: bool) -> ArtifactRef:
        timing = StageTiming(wall_s=1, cpu_s=2, bytes_out=3, runs=1)
        return ArtifactRef(media_id="m", stage=stage, key="k", uri="u", timing=timing, cached=cached)

    summed = assemble.stage_timings([ref("frames", True), ref("frames", False), ref("audio", True)])
    assert summed["frames"] == StageTiming(wall_s=2, cpu_s=4, bytes_out=6, runs=2, cached=False)
    assert summed["audio"].cached
    assert list(summed) == ["frames", "audio"]


def test_what_decoding_shows_is_added_to_what_the_packets_say() -> None:
    known = Damage(start=3, end=5, lost_s=2, kind="missing", stream="audio")
    same, other = (
        Damage(start=start, end=start + 1, lost_s=1, kind="undecodable", stream="audio") for start in (3.5, 8)
    )
    info = MediaInfo(container="ogg", bytes=1, duration_s=10, start_offset_s=0, damaged=True, damage=[known], lost_s=2)
    heard = Heard(duration_s=9.5, decoded_s=6.5, damage=[same, other], notice="No sound.")
    found = assemble.checked(info, heard)
    assert (found.damage, found.lost_s, found.duration_s) == ([known, other], 3.0, 9.5)
    assert found.notices == ["No sound."]
