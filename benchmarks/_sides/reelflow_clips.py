"""Reelflow with every stage, clips included: what the eight stages do."""

from __future__ import annotations

from benchmarks._sides import Found, Job, main
from benchmarks._sides.reelflow import analyze


def reelflow_clips(job: Job) -> Found:
    """Whole media, all stages."""
    return analyze(job, [])


if __name__ == "__main__":
    main(reelflow_clips)
