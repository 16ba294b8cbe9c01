"""Reelflow itself: flow runs on a warm engine (embedded Prefect server, Dask workers that have run before)."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks._media import FPS
from benchmarks._sides import CONFIDENCE, Box, Found, Job, main, words


def reelflow(job: Job) -> Found:
    """Whole media without clips, as the script and the engine loop do it."""
    return analyze(job, ["clips.enabled=false"])


def analyze(job: Job, more: Sequence[str]) -> Found:
    """One source by `analyze-media`, several by a backfill, after both workers have done every stage."""
    import sys

    from benchmarks._corpus import WITHOUT_SCENES, tiny
    from tasks.core.models import bundled
    from tasks.core.options import parse_options

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    from flows.runtime.run import engine

    models = [f"transcript.model={job.whisper}", f"detections.confidence={CONFIDENCE}", "detections.weights=auto"]
    options = parse_options([*models, *WITHOUT_SCENES, *more])
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as root, engine():
        for number, warm in enumerate(
            [bundled.SAMPLE_CLIP, bundled.SAMPLE_CLIP, _write(Path(root) / "x.mp4", tiny(1))]
        ):
            _run([str(warm)], f"{root}/warm-{number}", options)
        started = time.perf_counter()
        _run(list(job.sources), job.folder, options)
        seconds = time.perf_counter() - started
    return _found(job, seconds)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _run(sources: list[str], store: str, options: Any) -> None:
    """One source as a run of its own, several (all files of one folder) as a backfill."""
    from flows.analyze_media import analyze_media
    from flows.backfill_prefix import backfill_prefix

    state: Any
    if len(sources) == 1:
        state = analyze_media(source=sources[0], store=store, options=options, return_state=True)
        assert state.result(_sync=True)["status"] == "done", state
        return
    state = backfill_prefix(prefix=str(Path(sources[0]).parent), store=store, options=options, return_state=True)
    assert state.result(_sync=True)["done"] == len(sources), state


def _found(job: Job, seconds: float) -> Found:
    from tasks.records.results import read_result
    from tasks.store import open_store

    store = open_store(job.folder)
    paths = [path for path in store.list("media") if path.endswith("/result.json")]
    results = [found[0] for path in paths if (found := read_result(store, path.split("/")[1]))]
    assert len(results) == len(job.sources), f"{len(results)} results of {len(job.sources)} sources"
    boxes: list[Box] = []
    said: list[str] = []
    parts: Counter[str] = Counter()
    for result in sorted(results, key=lambda result: result.source):
        boxes += (
            (round(frame.time * FPS), box.class_, box.confidence, *box.xyxy)
            for frame in result.detections.frames
            for box in frame.boxes
        )
        said += words(result.transcript.text)
        for name, timing in result.timing.items():
            parts[name] += timing.wall_s  # type: ignore[assignment]
    return Found(seconds, boxes, said, dict(parts))


if __name__ == "__main__":
    main(reelflow)
