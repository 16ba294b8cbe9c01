"""faster-whisper's `WhisperModel.transcribe`, one file after another, with `arguments` and its defaults besides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks._media import read_samples
from benchmarks._sides import Found, Job, main


def faster_transcribe(job: Job) -> Found:
    """What is said in every source."""
    return transcribe(job, load(job))


def load(job: Job) -> Any:
    """The same weights, float32, on all cores."""
    import ctranslate2
    from faster_whisper import WhisperModel

    from benchmarks._whisper_formats import ctranslate2_folder
    from tasks.workers.threads import available_cores

    ctranslate2.set_random_seed(1)  # temperatures above 0 sample
    folder = ctranslate2_folder(Path(job.whisper))
    return WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=available_cores())


def transcribe(job: Job, model: Any) -> Found:
    """All sources by a model or a pipeline over one."""
    said = []
    started = time.perf_counter()
    for source in job.sources:
        parts, _ = model.transcribe(read_samples(Path(source)), language="en", **job.arguments)
        said.append([(part.start, part.end, part.text) for part in parts])
    return Found(time.perf_counter() - started, segments=said)


if __name__ == "__main__":
    main(faster_transcribe)
