"""Reelflow on the video workload: no speech, no clips."""

from __future__ import annotations

from benchmarks._media import FPS
from benchmarks._sides import Found, Job, main
from benchmarks._sides.reelflow import analyze


def reelflow_video(job: Job) -> Found:
    """Boxes of every frame, or of one a second."""
    rate = [f"frames.fps={FPS}"] if job.every_frame else []
    return analyze(job, ["transcript.enabled=false", "clips.enabled=false", *rate])


if __name__ == "__main__":
    main(reelflow_video)
