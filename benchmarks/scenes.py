"""Scene changes against annotated cuts: the shot detector and the moving average of embeddings, next to PySceneDetect.

The annotated videos of the test media. A cut counts as found when a change lies within one frame of it (or, in the
second group of columns, within the time between two embedded frames, for the moving average looks at no others); each
change counts for one cut. PySceneDetect is its own command, `scenedetect detect-adaptive`, in the same run. Ours
decodes in batches as the pipeline does and samples frames in the same pass; its time holds that, and the network's
not. Changes must be the same whatever the batches.

`sintel.mp4` was annotated for this project, by frame difference and by eye. The scene starts of `psd_testvideo.mp4`
are those of PySceneDetect's test of another detector (fades to black): they tell where the three disagree.
Only the bundled demonstration model of embeddings could be had; real SigLIP weights are taken where they are.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from benchmarks._media import test_media
from benchmarks._results import Row, Table, parser, publish
from tasks.core.embeddings import Embeddings, concatenate
from tasks.core.frame_plan import plan_batches
from tasks.core.frames import sample_frames
from tasks.core.options import AudioOptions, FrameOptions, LimitOptions, SceneOptions
from tasks.core.probe import probe
from tasks.core.scenes import EmaScenes
from tasks.core.shots import find_cuts
from tasks.workers.threads import available_cores

NAME = "scenes"
VIDEOS = ("sintel.mp4", "psd_testvideo.mp4")
EMBED_FPS = Fraction(16, 10)
BATCHES = (64, 5)
"""Samples per batch: the default, and one that cuts the videos into several."""


@dataclass(frozen=True)
class Truth:
    path: Path
    fps: float
    cuts: list[float]
    """Seconds."""
    end: float
    """Annotated up to here, seconds."""


def main(argv: Sequence[str]) -> None:
    """Compares on each video. Raises AssertionError where batches change what ours finds."""
    options = parser(NAME, __doc__)
    options.add_argument("--model", default="bundled", help="SigLIP: bundled, auto, a name or a folder")
    arguments = options.parse_args(argv)
    rows = [row for name in VIDEOS for row in compare(annotated(name), arguments.model)]
    publish(arguments, NAME, __doc__, [Table("Changes against annotated cuts", rows)], packages=("scenedetect", "av"))


def annotated(name: str) -> Truth:
    """A video of the test media and its cuts."""
    path = test_media() / "video" / name
    known = json.loads((test_media() / "ground_truth.json").read_text())["video"][name]
    info = probe(path, LimitOptions(), AudioOptions())
    if info.video is None:
        raise ValueError(f"{path} has no video")
    fps = float(known.get("fps") or info.video.fps)
    frames = known.get("cut_frames") or known["scene_starts"][1:]
    last = known["range"][1] if "range" in known else known["frames"]
    return Truth(path, fps, [frame / fps for frame in frames], last / fps)


def compare(truth: Truth, model: str) -> list[Row]:
    """One row per detector."""
    shots, ema, ours_s = ours(truth.path, model)
    theirs, theirs_s = pyscenedetect(truth.path)
    found = {
        "reelflow, shots": (shots, ours_s),
        "reelflow, moving average": (ema, ours_s),
        "scenedetect": (theirs, theirs_s),
    }
    return [
        {
            "video": truth.path.name,
            "detector": name,
            "cuts": len(truth.cuts),
            "found": sum(at < truth.end for at in times),
            **score(times, truth, 1.0 / truth.fps, "1 frame"),
            **score(times, truth, float(1 / EMBED_FPS), "0.625 s"),
            "wall s": round(took, 2),
        }
        for name, (times, took) in found.items()
    ]


def score(times: list[float], truth: Truth, tolerance_s: float, label: str) -> Row:
    """Precision, recall and F1 of changes before the end of the annotation."""
    left = [at for at in times if at < truth.end]
    changes, hits = len(left), 0
    for cut in truth.cuts:
        near = [at for at in left if abs(at - cut) <= tolerance_s * 1.01]
        if near:
            hits += 1
            left.remove(min(near, key=lambda at: abs(at - cut)))
    precision, recall = hits / max(changes, 1), hits / max(len(truth.cuts), 1)
    f1 = 2 * hits / max(changes + len(truth.cuts), 1)
    return {
        f"precision, {label}": round(precision, 3),
        f"recall, {label}": round(recall, 3),
        f"F1, {label}": round(f1, 3),
    }


def ours(path: Path, model: str) -> tuple[list[float], list[float], float]:
    """Times of cuts and of scene changes, and the seconds of decoding, sampling and comparing."""
    from tasks.core.models import siglip
    from tasks.core.models.siglip_weights import resolve_siglip
    from tasks.settings import settings

    network = siglip.load(resolve_siglip(model, settings().models).path)
    info, options = probe(path, LimitOptions(), AudioOptions()), SceneOptions()
    answers, took = [], 0.0
    for size in BATCHES:
        started = time.perf_counter()
        sampling = FrameOptions(batch_size=size)
        plan = plan_batches(info, sampling, embed_fps=EMBED_FPS, shots=True)
        batches = [sample_frames(path, info, batch, sampling, available_cores()) for batch in plan]
        shots = find_cuts([batch.shots for batch in batches if batch.shots], options)
        took = took or time.perf_counter() - started
        vectors = concatenate(
            [
                Embeddings(
                    [slot for slot in batch.slots if slot is not None],
                    [time for time, slot in zip(batch.times, batch.slots, strict=True) if slot is not None],
                    network.embed_images(
                        [image for image, slot in zip(batch.images, batch.slots, strict=True) if slot is not None]
                    ),
                )
                for batch in batches
            ]
        )
        ema = EmaScenes(options).update(vectors.times, vectors.vectors)
        answers.append(([change.time for change in shots], [change.time for change in ema]))
    assert answers[0] == answers[1], f"{path.name}: other changes with other batches"
    return *answers[0], took


def pyscenedetect(path: Path) -> tuple[list[float], float]:
    """Times of the cuts that PySceneDetect's command finds, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "scenedetect", "-q", "-i", str(path), "-o", folder]
        started = time.perf_counter()
        subprocess.run([*command, "detect-adaptive", "list-scenes", "-q", "-s", "-f", "scenes.csv"], check=True)
        took = time.perf_counter() - started
        with (Path(folder) / "scenes.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    return [float(row["Start Time (seconds)"]) for row in rows[1:]], took
