"""What a GPU does with Reelflow's networks, as one JSON object within eight minutes; no GPU has run it yet.

Each part calls the functions of the pipeline in a process of its own, with a time limit of its own; a part that fails
stands in the JSON with its reason, and the others go on.

- detect: frames/s of the detector from stored JPEG and from decoded frames, and where a frame's time goes; YOLO11n and
  a street where REELFLOW_MODELS_DIR and REELFLOW_TEST_MEDIA have them, else the bundled network and sample.
- embed: frames/s of SigLIP so400m's dimensions, random weights, against the rate of its own matrix products.
- words: what tiny.en hears (else the bundled weights), against what was said.
- speech: times real time of Whisper large-v3's dimensions, random weights, as many tokens in every window.

detect, embed and words also do the same on the CPU in float32 and fail where boxes, vectors or words differ by the rule
that stands beside them. nvidia-smi, where it is there, is asked four times a second. `--cpu` runs the same code on
small sizes without a GPU: it shows that the check works, and its figures mean nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._gpu import ON_CPU, ON_GPU, Figures
from benchmarks._gpu.processes import command, run

TOTAL_S = 475.0
"""Of all parts together."""


def main(argv: Sequence[str]) -> None:
    """Prints the JSON. Raises SystemExit with status 1 where a part failed, with a sentence where there is no GPU."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--cpu", action="store_true", help="small sizes on the CPU")
    options.add_argument("--only", nargs="+", choices=tuple(ON_GPU.limits_s), help="these parts only")
    arguments = options.parse_args(argv)
    import torch

    if not arguments.cpu and not torch.cuda.is_available():
        raise SystemExit("gpu-check: torch sees no GPU here; ARGS=--cpu tries the check itself on small sizes.")
    from benchmarks._results import machine

    began = time.monotonic()
    parts: dict[str, Figures] = {}
    for name, limit_s in (ON_CPU if arguments.cpu else ON_GPU).limits_s.items():
        if arguments.only and name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            into = Path(folder) / "figures.json"
            left = max(1.0, TOTAL_S - (time.monotonic() - began))
            parts[name] = run(command(name, into, cpu=arguments.cpu), into, min(limit_s, left))
        print(f"{name}: {parts[name]['seconds']} s", file=sys.stderr, flush=True)
    found = {
        "mode": "cpu" if arguments.cpu else "gpu",
        "machine": machine(),
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - began, 1),
        "parts": parts,
    }
    print(json.dumps(found, indent=1))
    if any("failed" in part for part in parts.values()):
        raise SystemExit(1)
