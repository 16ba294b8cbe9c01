"""Results made by hand for the views: a plain one, an empty one and one whose every string is an attack."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np

from tasks.core.embeddings import Embeddings
from tasks.core.schema import (
    AudioStream,
    Box,
    Caption,
    Chunk,
    Clip,
    Detections,
    FrameDetections,
    MediaInfo,
    ModelInfo,
    Result,
    SceneChange,
    Segment,
    StageTiming,
    Tag,
    Transcript,
    VideoStream,
    Word,
)

ATTACKS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "' autofocus onfocus='window.pwned=1",
    "{{ 7 * 7 }}{% raw %}javascript:window.pwned=1",
    "</style><svg onload=window.pwned=1>",
    "<!--<script>",
    "a\u2028b\u202ec\x00d --> {\\an8}\n\n1\n00:00:00,000 --> 00:00:01,000\nghost",
)


def words(text: str, start: float, each: float = 0.5) -> list[Word]:
    """Evenly timed words with whisper's leading spaces."""
    return [
        Word(start=start + at * each, end=start + at * each + each * 0.8, text=f" {word}", probability=0.9)
        for at, word in enumerate(text.split())
    ]


def media(*, video: bool = True, audio: bool = True, **changes: Any) -> MediaInfo:
    picture = VideoStream(index=0, codec="h264", width=192, height=108, fps=Fraction(25), start=0, duration_s=4.0)
    sound = AudioStream(index=1, codec="aac", sample_rate=48000, channels=1, start=0, duration_s=4.0)
    facts: dict[str, Any] = {
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "bytes": 12345,
        "duration_s": 4.0,
        "start_offset_s": 0.0,
        "video": picture if video else None,
        "audio": sound if audio else None,
    }
    return MediaInfo(**{**facts, **changes})


def result(**changes: Any) -> Result:
    """Three segments and four frames at one frame/s, 4 s long."""
    said = ["hello there", "one two three", "good bye"]
    segments = [
        Segment(
            id=at, start=at + 0.25, end=at + 1.0, text=f" {text}", avg_logprob=-0.25, words=words(text, at + 0.25, 0.2)
        )
        for at, text in enumerate(said)
    ]
    car = Box(xyxy=(10, 20, 90, 80), class_="car", confidence=0.75)
    person = Box(xyxy=(100, 5, 150, 100), class_="person", confidence=0.5)
    boxes = [[car], [car, person], [], [car, car]]
    street = Caption(text="Cars drive along a street.", score=0.25, start=0.0, end=2.0)
    record: dict[str, Any] = {
        "media_id": "0" * 32,
        "key": "f" * 64,
        "source": "s3://bucket/2026/talk.mp4",
        "media": media(),
        "options": {"frames": {"fps": 1.0, "mode": "uniform"}, "detections": {"classes": None}},
        "models": {
            "detections": ModelInfo(name="yolo11n.pt", digest="d" * 64),
            "embeddings": ModelInfo(name="siglip", digest="e" * 64),
        },
        "transcript": Transcript(language="en", text=" ".join(said), segments=segments),
        "clips": [Clip(start=0.0, end=1.5, uri="s3://store/clips/00000.mp4")],
        "detections": Detections(
            frames_sampled=4,
            sample_fps=1.0,
            classes={"car": 4, "person": 1},
            frames=[FrameDetections(index=at, time=float(at), boxes=found) for at, found in enumerate(boxes)],
        ),
        "scenes": [SceneChange(time=2.0, method="ema", score=0.25), SceneChange(time=2.04, method="shot", score=31.5)],
        "tags": [Tag(text="a street", score=0.125, probability=0.5), Tag(text="a car park", score=0.0625)],
        "caption": street,
        "chunks": [
            Chunk(start=0.0, end=2.0, tags=[Tag(text="a street", score=0.25)], caption=street),
            Chunk(start=2.0, end=4.0, tags=[Tag(text="a car park", score=0.125)]),
        ],
        "artifacts": {"transcript": "s3://store/transcript/k"},
        "timing": {
            "transcript": StageTiming(wall_s=2.0, cpu_s=3.5, queue_s=0.5, bytes_in=10, bytes_out=20, runs=2),
            "detections": StageTiming(wall_s=1.0, cpu_s=1.5, gpu_s=0.25, queue_s=0.25, runs=1, cached=True),
        },
        "cost": {"transcript": 0.0001, "detections": 0.0002, "total": 0.0003},
        "created": datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
    }
    return Result(**{**record, **changes})


def embeddings(count: int = 4) -> Embeddings:
    """Unit vectors of 8 numbers, one a second."""
    vectors = np.random.default_rng(1).standard_normal((count, 8)).astype(np.float32)
    slots = list(range(count))
    return Embeddings(slots, [float(at) for at in slots], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def empty() -> Result:
    """Nothing said, nothing seen, nothing known."""
    return result(
        media=media(video=False, audio=False, duration_s=0.0),
        transcript=Transcript(),
        detections=Detections(),
        clips=[],
        scenes=[],
        tags=[],
        caption=None,
        chunks=[],
        models={},
        artifacts={},
        timing={},
        cost={},
    )


def hostile() -> Result:
    """Each attack as source, language, text, word, class, model, option, stage, artifact, codec and notice."""
    every = " ".join(ATTACKS)
    segments = [
        Segment(
            id=at, start=at / 3, end=at / 3 + 0.3, text=text, words=[Word(start=0, end=1, text=text, probability=1)]
        )
        for at, text in enumerate(ATTACKS)
    ]
    boxes = [Box(xyxy=(1, 1, 150, 100), class_=text, confidence=0.5) for text in ATTACKS]
    sound = AudioStream(index=1, codec=every, sample_rate=1, channels=1, language=every, start=0, duration_s=4)
    return result(
        source=f"s3://bucket/{every}",
        media=media(container=every).model_copy(update={"audio": sound}),
        options={every: {every: every}},
        models={every: ModelInfo(name=every, digest=every, backend=every)},
        transcript=Transcript(language=every, text=every, segments=segments),
        detections=Detections(
            frames_sampled=1,
            sample_fps=1.0,
            classes=dict.fromkeys(ATTACKS, 1),
            frames=[FrameDetections(index=0, time=0.0, boxes=boxes)],
        ),
        clips=[Clip(start=0, end=1, uri=every)],
        tags=[Tag(text=text, score=0.5) for text in ATTACKS],
        caption=Caption(text=every, score=0.5, start=0, end=1),
        chunks=[Chunk(start=0, end=4, tags=[Tag(text=text, score=0.5) for text in ATTACKS])],
        artifacts={every: every},
        timing={every: StageTiming(wall_s=1.0)},
        cost={every: 1.0, "total": 1.0},
        notice=every,
    )
