"""Reelflow on the speech workload: files of clips by a backfill, one recording by a run.

The clips say eight sentences again and again: within a window of 30 s that would pass for a decoder that stutters, so
the guard against it is wide here.
"""

from __future__ import annotations

from benchmarks._sides import Found, Job, main
from benchmarks._sides.reelflow import analyze


def reelflow_speech(job: Job) -> Found:
    """Text of every clip."""
    return analyze(job, ["clips.enabled=false", "transcript.compression_ratio=10"])


if __name__ == "__main__":
    main(reelflow_speech)
