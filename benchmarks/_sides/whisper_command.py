"""whisper's own command, `whisper CLIP ...`, in one process over all clips; its start is taken off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._sides import Found, Job, main, words


def whisper_command(job: Job) -> Found:
    """Text of every clip. `seconds` are those of all clips but one, from two runs of the command, for all clips."""
    from imageio_ffmpeg import get_ffmpeg_exe

    tools = Path(job.folder) / "bin"
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(get_ffmpeg_exe())
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}

    def run(sources: list[str], out: Path) -> float:
        command = [str(Path(sys.executable).with_name("whisper")), *sources, "--model", job.whisper, "--device", "cpu"]
        command += ["--output_dir", str(out), "--output_format", "json", "--fp16", "False", "--language", "en"]
        command += ["--condition_on_previous_text", "False", "--beam_size", "1", "--best_of", "1", "--verbose", "False"]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started

    one = run(list(job.sources[:1]), Path(job.folder) / "one")
    everything = run(list(job.sources), Path(job.folder) / "all")
    texts = [json.loads((Path(job.folder) / "all" / f"{Path(s).stem}.json").read_text())["text"] for s in job.sources]
    clips = len(job.sources)
    return Found((everything - one) * clips / (clips - 1), words=words(" ".join(texts)), parts={"start": one})


if __name__ == "__main__":
    main(whisper_command)
