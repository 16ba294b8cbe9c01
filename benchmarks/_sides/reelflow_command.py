"""Reelflow's own command over all files at once, `python -m flows analyze ...`, speech alone; its start counts too."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from benchmarks._sides import Found, Job, Segment, main

SPEECH_ALONE = (
    "transcript.language=en",
    "clips.enabled=false",
    "detections.enabled=false",
    "embeddings.enabled=false",
    "scenes.shots=false",
)


def reelflow_command(job: Job) -> Found:
    """What is said in every source. A source that is not done has its status and error among `failures`."""
    command = [sys.executable, "-m", "flows", "analyze", "--json", "--store", job.folder, *job.sources]
    for option in (f"transcript.model={job.whisper}", *SPEECH_ALONE):
        command += ["--set", option]
    started = time.perf_counter()
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    reports = {report["source"]: report for report in map(json.loads, ran.stdout.splitlines())}
    missing = [source for source in job.sources if source not in reports]
    if missing:
        raise RuntimeError(f"`flows analyze` ended with {ran.returncode} and says nothing of {missing}")
    failures = {
        source: f"{report['status']}: {report['error']}"
        for source, report in reports.items()
        if report["status"] not in ("done", "cached")
    }
    said = [[] if source in failures else _segments(reports[source]["result"]) for source in job.sources]
    return Found(seconds, segments=said, failures=failures)


def _segments(result: str) -> Sequence[Segment]:
    path = Path(url2pathname(urlsplit(result).path))
    transcript: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["transcript"]
    return [(part["start"], part["end"], part["text"]) for part in transcript["segments"]]


if __name__ == "__main__":
    main(reelflow_command)
