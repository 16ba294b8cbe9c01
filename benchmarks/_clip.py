"""The clip that every request of a load test analyses: the same pictures and speech each time, never the same bytes."""

from __future__ import annotations

import io
import json
import struct
import uuid
from functools import cache
from typing import Any

from tasks.core.models import bundled
from tasks.core.schema import Result

SECONDS = 5.0
"""Two sentences and two shapes of the bundled sample."""

OPTIONS: dict[str, Any] = {
    "transcript": {"model": "bundled"},
    "detections": {"weights": "bundled", "image_size": 320, "confidence": 0.35},
    "embeddings": {"enabled": False},
    "scenes": {"shots": False},
}
"""A run's options: the bundled models, which are known to read the sample exactly."""

PRELOAD = "transcript.model=bundled detections.weights=bundled detections.image_size=320"
"""The same models, as REELFLOW_PRELOAD_MODELS names them."""


def clip() -> bytes:
    """An MP4 file that no other call returns: a `free` box, which players skip, holds a new number."""
    return _beginning() + struct.pack(">I4s", 24, b"free") + uuid.uuid4().bytes


def fault(result: Result) -> str:
    """What is wrong with a result of the clip; "" when its words and objects are those of the sample."""
    said, seen = _truth()
    if (heard := " ".join(_words(result.transcript.text))) != said:
        return f"heard {heard!r} instead of {said!r}"
    found = {name for name, count in result.detections.classes.items() if count}
    if found != seen or not all(frame.boxes for frame in result.detections.frames):
        return f"saw {sorted(found)} instead of {sorted(seen)}"
    return ""


@cache
def _beginning() -> bytes:
    """The packets of the sample's first seconds, as they are."""
    import av

    out = io.BytesIO()
    with av.open(str(bundled.SAMPLE_CLIP)) as source, av.open(out, "w", format="mp4") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        ended: set[int] = set()
        for packet in source.demux():
            if packet.pts is None or packet.stream.index in ended:
                continue
            if packet.pts * packet.time_base >= SECONDS:
                ended.add(packet.stream.index)  # in order of decoding, so nothing kept refers to what is left out
                continue
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return out.getvalue()


@cache
def _truth() -> tuple[str, set[str]]:
    """(words, classes) of the first seconds."""
    truth = json.loads(bundled.SAMPLE_TRUTH.read_text("utf-8"))
    said = " ".join(part["text"] for part in truth["speech"] if part["end"] < SECONDS)
    return said, {name for second in truth["objects"][: int(SECONDS)] for name in second}


def _words(text: str) -> list[str]:
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()
