"""The engines alone: Reelflow's functions with its batches on as many processes, without Prefect, Dask or store.

What a flow run takes longer than this is what orchestration costs. Frames go from decoder to detector in memory; no
frame, clip, table or report is written.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks._corpus import WITHOUT_SCENES
from benchmarks._media import FPS
from benchmarks._sides import CONFIDENCE, Box, Found, Job, Parts, main
from tasks.core.frame_plan import FrameBatchSpec, plan_batches
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.core.schema import MediaInfo, SpeechWindow
from tasks.core.segments import Speech
from tasks.workers.threads import LIBRARIES, available_cores

LANGUAGE_WINDOWS = 3


def engine_loop(job: Job) -> Found:
    """The whole media on one process per core."""
    from tasks.core import windows
    from tasks.core.probe import probe

    [source] = job.sources
    options = parse_options([f"transcript.model={job.whisper}", f"detections.confidence={CONFIDENCE}", *WITHOUT_SCENES])
    cores = available_cores()
    os.environ.update(dict.fromkeys(LIBRARIES, "1"))
    with ProcessPoolExecutor(cores, get_context("spawn"), _load, (job, options)) as pool:
        list(pool.map(_warm, range(4 * cores)))
        parts = Parts()
        path = Path(source)
        info = probe(path, options.limits, options.audio)
        audio = pool.submit(_audio, path, info, Path(job.folder))
        seen = [pool.submit(_detect, path, info, batch, options) for batch in plan_batches(info, options.frames)]
        spoken = pool.submit(_segments, audio.result(), options).result()
        packed = windows.pack_windows(spoken.segments, spoken.pauses, options.transcript.window_s, info.duration_s)
        language = pool.submit(_language, audio.result(), packed[:LANGUAGE_WINDOWS]).result()
        batches = windows.batch_windows(packed, options.transcript.batch_size)
        said = [pool.submit(_transcribe, audio.result(), batch, options, language, spoken) for batch in batches]
        boxes = [box for batch in seen for box in batch.result()]
        text = [part for future in said for part in future.result()]
        parts.end("all")
    return parts.found(boxes, text)


_models: dict[str, Any] = {}


def _load(job: Job, options: AnalyzeOptions) -> None:
    import numpy as np

    from tasks.core.models import whisper, yolo
    from tasks.core.segments import segment_speech
    from tasks.settings import settings

    chosen = options.detections
    _models["yolo"] = yolo.load(Path(job.yolo), image_size=chosen.image_size, cache_dir=settings().cache)
    _models["whisper"] = whisper.load(Path(job.whisper), "cpu", "float32")
    segment_speech(np.zeros(16000, np.float32), options.segments)
    whisper.transcribe(
        _models["whisper"],
        [SpeechWindow(start=0.0, end=1.0)],
        [np.zeros(16000, np.float32)],
        options.transcript,
        "en",
    )


def _warm(_number: int) -> None:
    import time

    time.sleep(0.2)  # long enough that every process takes one, and so is there


def _audio(path: Path, info: MediaInfo, folder: Path) -> Path:
    from tasks.core.audio import extract_audio

    extract_audio(path, info, folder / "audio.flac")
    return folder / "audio.flac"


def _segments(audio: Path, options: AnalyzeOptions) -> Speech:
    from tasks.core.audio import load_audio
    from tasks.core.segments import find_speech

    return find_speech(load_audio(audio), options.segments)


def _language(audio: Path, first: list[SpeechWindow]) -> str:
    from tasks.core.audio import load_audio
    from tasks.core.models import whisper

    return whisper.detect_language(_models["whisper"], [load_audio(audio, w.start, w.end) for w in first]).code


def _transcribe(
    audio: Path, batch: list[SpeechWindow], options: AnalyzeOptions, language: str, spoken: Speech
) -> list[str]:
    from tasks.core.audio import load_audio
    from tasks.core.models import whisper

    heard = [load_audio(audio, window.start, window.end) for window in batch]
    said = whisper.transcribe(_models["whisper"], batch, heard, options.transcript, language, spoken)
    return [segment.text for window in said for segment in window.segments]


def _detect(path: Path, info: MediaInfo, batch: FrameBatchSpec, options: AnalyzeOptions) -> list[Box]:
    from tasks.core.frames import sample_frames
    from tasks.core.models import yolo

    frames = sample_frames(path, info, batch, options.frames, threads=1)
    found = yolo.detect(_models["yolo"], frames.images, (frames.width, frames.height), options.detections)
    return [
        (round(time * FPS), box.class_, box.confidence, *box.xyxy)
        for time, boxes in zip(frames.times, found, strict=True)
        for box in boxes
    ]


if __name__ == "__main__":
    main(engine_loop)
