"""What Reelflow is compared with: one file per side, each run in a process of its own on the same job."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CONFIDENCE = 0.35
"""Boxes below this are no side's."""


Segment = tuple[float, float, str]
"""Start and end in seconds, and what was said."""
Box = tuple[int, str, float, float, float, float, float]
"""Number of the video's frame, class, confidence, left, top, right and bottom in pixels."""


@dataclass(frozen=True)
class Job:
    """The same for every side. Paths of files; `folder` is empty and the side's own."""

    sources: Sequence[str]
    yolo: str
    whisper: str
    folder: str
    every_frame: bool = False
    """Detect in every frame, not in one a second."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the side's own call takes besides."""


@dataclass(frozen=True)
class Found:
    """What a side found, and how long it took once everything was loaded."""

    seconds: float
    boxes: Sequence[Box] = ()
    words: Sequence[str] = ()
    """What was said, lower case, in order."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each stage, where a side runs one after another."""
    segments: Sequence[Sequence[Segment]] = ()
    """Of each source what was said, with times, where a side is asked for that."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Sources that a side gave up, with its reason; such a source has no segments."""


class Parts:
    """Seconds by stage of a side that runs one after another."""

    def __init__(self) -> None:
        self.started = self._last = time.perf_counter()
        self.seconds: Counter[str] = Counter()

    def end(self, stage: str) -> None:
        """What passed since the last end was this stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last  # type: ignore[assignment]
        self._last = now

    def found(self, boxes: Sequence[Box], said: Sequence[str]) -> Found:
        return Found(self._last - self.started, boxes, words(" ".join(said)), dict(self.seconds))


def run(name: str, job: Job, *, timeout_s: float = 1800.0) -> Found:
    """One side's answer from a process of its own. Raises RuntimeError with its last words when it fails."""
    command = [sys.executable, "-m", f"benchmarks._sides.{name}", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"the side {name} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return Found(**json.loads(done.stdout.strip().splitlines()[-1]))


def main(side: Any) -> None:
    """What `python -m benchmarks._sides.NAME JOB` does: runs the side's function and prints what it found."""
    print(json.dumps(asdict(side(Job(**json.loads(sys.argv[1]))))))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()


def ffmpeg(*arguments: str) -> bytes:
    """Runs ffmpeg as a script would; its standard output."""
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def load_yolo(job: Job) -> Any:
    """Ultralytics' own model, as its README loads it, after a first prediction."""
    import numpy as np
    from ultralytics import YOLO

    made: Any = YOLO(job.yolo)
    made.predict(np.zeros((720, 1280, 3), np.uint8), conf=CONFIDENCE, verbose=False)
    return made


def load_whisper(job: Job) -> Any:
    """openai-whisper's own model after a first transcription."""
    import numpy as np
    import whisper

    from benchmarks._media import openai_whisper

    made = openai_whisper(Path(job.whisper))
    whisper.transcribe(made, np.zeros(16000, np.float32), fp16=False)
    return made


def boxes_of(model: Any, frame: int, result: Any) -> list[Box]:
    """Ultralytics' result of one frame."""
    found = result.boxes
    each = zip(found.cls.tolist(), found.conf.tolist(), found.xyxy.tolist(), strict=True)
    return [(frame, model.names[int(number)], confidence, *xyxy) for number, confidence, xyxy in each]
