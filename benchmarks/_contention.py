"""How much processes slow each other down: each sort of work alone, then beside every other on all other cores."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks._media import read_samples
from benchmarks._results import median

SORTS = ("detection", "speech", "media", "python")
TURN_S = 0.5
"""Length of one measurement."""

REPEATS = 2


def measure_slowdown(street: Path, talk: Path, cores: int) -> dict[str, dict[str, float]]:
    """`slowdown[a][b]`: CPU time of a piece of work a while all other cores do b, over that alone.

    `street` and `talk` are files with pictures and with speech. Medians of REPEATS.
    """
    if cores < 2:
        return {a: dict.fromkeys(SORTS, 1.0) for a in SORTS}
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    with patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
        for _ in range(cores):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, str(street), str(talk)), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
    try:
        for pipe in pipes:
            assert pipe.recv() == "ready"
        found: dict[str, dict[str, list[float]]] = {a: {b: [] for b in SORTS} for a in SORTS}
        for _, a in itertools.product(range(REPEATS), SORTS):
            before = _turn(pipes, a, None)
            for b in SORTS:
                # Alone right before and after: the machine's own changes of speed cancel out.
                beside, after = _turn(pipes, a, b), _turn(pipes, a, None)
                found[a][b].append(beside / ((before + after) / 2))
                before = after
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
    return {a: {b: median(ratios) for b, ratios in row.items()} for a, row in found.items()}


def _turn(pipes: list[Connection], first: str, others: str | None) -> float:
    """CPU seconds per piece of the first process' work, median: other processes that take a core away do not count."""
    working = pipes if others else pipes[:1]
    for number, pipe in enumerate(working):
        pipe.send(others if number else first)
    first_s, *_ = [float(pipe.recv()) for pipe in working]
    return first_s


def _serve(pipe: Connection, street: str, talk: str) -> None:
    work = _works(Path(street), Path(talk))
    for piece in work.values():
        piece()
    pipe.send("ready")
    while (sort := pipe.recv()) is not None:
        piece = work[sort]
        started, pieces_s = time.perf_counter(), []
        while time.perf_counter() - started < TURN_S:
            before = time.process_time()
            piece()
            pieces_s.append(time.process_time() - before)
        pipe.send(median(pieces_s))


def _works(street: Path, talk: Path) -> dict[str, Callable[[], Any]]:
    """One short piece of each sort: through the code and the networks that stages use, with one thread."""
    import torch

    torch.set_num_threads(1)
    from tasks.core.frame_plan import plan_batches
    from tasks.core.frames import sample_frames
    from tasks.core.models import weights, whisper, yolo
    from tasks.core.options import AudioOptions, DetectionOptions, FrameOptions, LimitOptions, TranscriptOptions
    from tasks.core.probe import probe
    from tasks.core.schema import AnalyzeReport, SpeechWindow
    from tasks.settings import settings

    info = probe(street, LimitOptions(), AudioOptions())
    options = FrameOptions()
    [batch, *_] = plan_batches(info, options)
    pictures = sample_frames(street, info, batch, options, 1).images[:1]
    size = (pictures[0].shape[1], pictures[0].shape[0])
    detector = yolo.load(weights.resolve_yolo("auto", settings().models).path, cache_dir=settings().cache)
    speech = whisper.load(weights.resolve_whisper("bundled", None).path, "cpu", "float32")
    samples = read_samples(talk)
    window = SpeechWindow(start=0.0, end=len(samples) / 16000)
    report = AnalyzeReport(source="s", media_id=None, status="done", result=None, seconds=1.0, cached=False)
    line = report.model_dump_json()

    def records() -> None:
        for _ in range(200):
            AnalyzeReport.model_validate_json(line).model_dump_json()

    return {
        "detection": lambda: yolo.detect(detector, pictures, size, DetectionOptions()),
        "speech": lambda: whisper.transcribe(speech, [window], [samples], TranscriptOptions(), "en"),
        "media": lambda: sample_frames(street, info, batch, options, 1),
        "python": records,
    }
