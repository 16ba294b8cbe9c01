"""openai-whisper's own `whisper.transcribe`, one file after another, with `arguments` and its defaults besides."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks._media import read_samples
from benchmarks._sides import Found, Job, load_whisper, main


def whisper_transcribe(job: Job) -> Found:
    """What is said in every source."""
    import torch
    import whisper

    model = load_whisper(job)
    torch.manual_seed(1)  # temperatures above 0 sample
    started = time.perf_counter()
    said = [
        whisper.transcribe(model, read_samples(Path(source)), fp16=False, language="en", **job.arguments)["segments"]
        for source in job.sources
    ]
    seconds = time.perf_counter() - started
    return Found(seconds, segments=[[(part["start"], part["end"], part["text"]) for part in parts] for parts in said])


if __name__ == "__main__":
    main(whisper_transcribe)
