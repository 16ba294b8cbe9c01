"""faster-whisper (CTranslate2) on clips, one after another with all cores, greedy: as its README shows."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks._sides import Found, Job, main, words
from benchmarks._sides._clips import decode


def faster_speech(job: Job) -> Found:
    """Text of every clip."""
    from faster_whisper import WhisperModel

    from benchmarks._whisper_formats import ctranslate2_folder
    from tasks.workers.threads import available_cores

    folder = ctranslate2_folder(Path(job.whisper))
    model = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=available_cores())
    said: list[str] = []
    list(model.transcribe(decode(Path(job.sources[0]).read_bytes()), beam_size=1)[0])
    started = time.perf_counter()
    for source in job.sources:
        segments, _ = model.transcribe(decode(Path(source).read_bytes()), beam_size=1, condition_on_previous_text=False)
        said += [segment.text for segment in segments]
    return Found(time.perf_counter() - started, words=words(" ".join(said)))


if __name__ == "__main__":
    main(faster_speech)
