"""Reelflow on the speech workload: files of clips by a backfill, one recording by a run."""

from __future__ import annotations

from benchmarks._sides import Found, Job, main
from benchmarks._sides.reelflow import analyze


def reelflow_speech(job: Job) -> Found:
    """Text of every clip, with the options among `arguments`."""
    return analyze(job, ["clips.enabled=false", *(f"{name}={value}" for name, value in job.arguments.items())])


if __name__ == "__main__":
    main(reelflow_speech)
