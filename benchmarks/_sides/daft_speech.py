"""Daft's public speech workload: files of clips, features and Whisper (transformers) in a process per core, Parquet.

After `audio_transcription` in Daft's repository of benchmarks, with float32 on the CPU for float16 on GPUs, and
features made in the same process, which moves less data.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks._sides import Found, Job, main, words
from benchmarks._sides._clips import BATCH, Transcriber, decode, numbered


def daft_speech(job: Job) -> Found:
    """Text of every clip."""
    import daft
    import pandas
    from daft import DataType, col

    from benchmarks._whisper_formats import transformers_folder
    from tasks.workers.threads import available_cores

    @daft.cls(max_concurrency=available_cores(), use_process=True)
    class Speech:
        def __init__(self, weights: str) -> None:
            self.transcriber = Transcriber(weights)

        @daft.method.batch(return_dtype=DataType.string(), batch_size=BATCH)  # type: ignore[untyped-decorator]
        def text(self, files: Any) -> Any:
            clips = [decode(Path(path).read_bytes()) for path in files.to_pylist()]
            return self.transcriber.texts(clips) if clips else []

    weights = str(transformers_folder(Path(job.whisper)))
    started = time.perf_counter()
    clips = daft.from_pydict({"path": list(job.sources)})
    clips.with_column("text", Speech(weights).text(col("path"))).write_parquet(job.folder)
    seconds = time.perf_counter() - started
    rows = pandas.read_parquet(job.folder)
    texts = [text for _, text in sorted(zip(map(numbered, rows["path"]), rows["text"], strict=True))]
    return Found(seconds, words=words(" ".join(texts)))


if __name__ == "__main__":
    main(daft_speech)
