"""faster-whisper's `BatchedInferencePipeline`: windows that its voice activity detection packs, eight at a time."""

from __future__ import annotations

from benchmarks._sides import Found, Job, main
from benchmarks._sides.faster_transcribe import load, transcribe


def faster_batched(job: Job) -> Found:
    """What is said in every source."""
    from faster_whisper import BatchedInferencePipeline

    return transcribe(job, BatchedInferencePipeline(load(job)))


if __name__ == "__main__":
    main(faster_batched)
