"""Ray Data's public speech workload: files of clips, features and Whisper (transformers) in an actor per core, Parquet.

After `audio_transcription` in Daft's repository of benchmarks, with float32 on the CPU for float16 on GPUs, and
features made in the same actor, which moves less data.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks._sides import Found, Job, main, words
from benchmarks._sides._clips import BATCH, Transcriber, decode, numbered


class Actor(Transcriber):
    """A batch of files in, their texts out."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"path": batch["path"], "text": self.texts([decode(data) for data in batch["bytes"]])}


def ray_speech(job: Job) -> Found:
    """Text of every clip."""
    from pathlib import Path

    import pandas
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from benchmarks._whisper_formats import transformers_folder
    from tasks.workers.threads import available_cores

    cores = available_cores()
    weights = str(transformers_folder(Path(job.whisper)))
    ray.init(num_cpus=2 * cores, include_dashboard=False, log_to_driver=False, logging_level="error")
    DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    clips = ray.data.read_binary_files(list(job.sources), include_paths=True)
    found = clips.map_batches(
        Actor, fn_constructor_args=(weights,), batch_size=BATCH, compute=ActorPoolStrategy(size=cores)
    )
    found.write_parquet(job.folder)
    seconds = time.perf_counter() - started
    rows = pandas.read_parquet(job.folder)
    ray.shutdown()
    texts = [text for _, text in sorted(zip(map(numbered, rows["path"]), rows["text"], strict=True))]
    return Found(seconds, words=words(" ".join(texts)))


if __name__ == "__main__":
    main(ray_speech)
