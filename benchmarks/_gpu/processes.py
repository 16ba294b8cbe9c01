"""Parts of the check in processes of their own: each has its time, and one that fails stops none of the others."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._gpu import ON_CPU, ON_GPU, Figures

SAMPLE_MS = 250
ASKED = ("utilization.gpu", "memory.used", "power.draw")


def command(part: str, into: Path, *, cpu: bool) -> list[str]:
    """What runs one part; its figures come as JSON in `into`."""
    return [sys.executable, "-m", "benchmarks._gpu.processes", part, str(into), *(["--cpu"] if cpu else [])]


def run(words: Sequence[str], into: Path, limit_s: float) -> Figures:
    """Seconds, the GPU's utilisation meanwhile, and the figures that the command wrote, or why there are none."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said, tempfile.TemporaryFile("w+") as samples:
        watcher = _watch(samples)
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if watcher:
                watcher.terminate()
                watcher.wait()
        found: Figures = {"seconds": round(time.monotonic() - started, 1), "limit_s": round(limit_s, 1)}
        samples.seek(0)
        if watcher:
            found["utilisation"] = utilisation(samples.read())
        said.seek(0)
        last = [line.strip() for line in said.read().splitlines() if line.strip()][-1:]
    if status is None:
        return found | {"failed": f"not done within {limit_s:g} s"}
    if status:
        return found | {"failed": "".join(last)[:500] or f"ended with status {status}"}
    return found | {"figures": json.loads(into.read_text(encoding="utf-8"))}


def utilisation(samples: str) -> Figures:
    """Mean and most of what nvidia-smi said; lines that are no numbers ("[N/A]") do not count."""
    rows = []
    for line in samples.splitlines():
        try:
            rows.append([float(value) for value in line.split(",")])
        except ValueError:
            continue
    rows = [row for row in rows if len(row) == len(ASKED)]
    columns = dict(zip(("gpu_percent", "memory_mib", "power_w"), zip(*rows, strict=True), strict=False))
    return {"samples": len(rows)} | {
        name: {"mean": round(sum(values) / len(values), 1), "most": max(values)} for name, values in columns.items()
    }


def _watch(into: Any) -> subprocess.Popen[bytes] | None:
    """nvidia-smi beside the part; None where it is not installed."""
    if shutil.which("nvidia-smi") is None:
        return None
    words = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader,nounits", f"-lms={SAMPLE_MS}"]
    return subprocess.Popen(words, stdout=into, stderr=subprocess.DEVNULL)


def main(arguments: Sequence[str]) -> None:
    """Runs one part in this process."""
    part, into, *more = arguments
    figures = importlib.import_module(f"benchmarks._gpu.{part}").run(ON_CPU if more else ON_GPU)
    Path(into).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
