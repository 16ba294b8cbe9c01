"""The whole pipeline against a plain script that does the same with the same models, one clip and one frame at a time.

Two sources: a video (objects at 1 frame/s) and a recording with speech. Each side runs cold (a fresh process, its
imports and start-up included) and warm (everything loaded). The script decodes every frame and calls `YOLO.predict` and
`whisper.transcribe` as their READMEs show. Both sides must have found the same before a time is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COUNT_TOLERANCE = 0.05
"""Largest difference in boxes per class, as a share: the script's frames never went through JPEG."""


def main(argv: Sequence[str]) -> None:
    """Runs both sides and prints a Markdown table (or JSON lines)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipeline", description=__doc__)
    parser.add_argument("--video", help="a video with objects; default: the 139 s one of REELFLOW_TEST_MEDIA")
    parser.add_argument("--speech", help="a recording with speech; default: the bundled sample")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side; the median counts")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--script", nargs=2, metavar=("KIND", "SOURCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.script:
        print(json.dumps(SCRIPTS[arguments.script[0]](arguments.script[1])))
        return
    from tasks.core.models import bundled

    media = Path(os.environ.get("REELFLOW_TEST_MEDIA", "."))
    video = arguments.video or str(media / "video" / "one-by-one-person-detection.mp4")
    speech = arguments.speech or str(bundled.SAMPLE_CLIP)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.run import engine

    cold = [run_cold("video", video, arguments.repeat), run_cold("speech", speech, arguments.repeat)]
    with engine():
        rows = [row for run in cold for row in (run, run_warm(run, arguments.repeat))]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return
    print("| source | start | script s | pipeline s | script / pipeline | both found |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {Path(row['source']).name} | {row['start']} | {row['script_s']:.2f} | {row['pipeline_s']:.2f} "
            f"| {row['script_s'] / row['pipeline_s']:.2f} | {row['found']} |"
        )
    for row in rows:
        if "stages" in row:
            stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["stages"].items())
            print(f"\n{Path(row['source']).name}, {row['start']}: {stages}")


OPTIONS = {
    "video": ["transcript.enabled=false", "detections.confidence=0.35", "detections.weights=auto"],
    "speech": ["transcript.model=bundled", "detections.enabled=false", "clips.enabled=false"],
}


def run_cold(kind: str, source: str, repeat: int) -> dict[str, Any]:
    """Both sides in fresh processes. Raises AssertionError when they disagree."""
    script_s: list[float] = []
    inside_s: list[float] = []
    pipeline_s: list[float] = []
    script: dict[str, Any] = {}
    for _ in range(repeat):
        script, seconds = _cold_script(kind, source)
        script_s.append(seconds)
        inside_s.append(script["seconds"])
        found, seconds = _cold_pipeline(kind, source)
        pipeline_s.append(seconds)
        _check(kind, script["found"], found)
    return {
        "kind": kind,
        "source": source,
        "start": "cold",
        "script_s": _median(script_s),
        "pipeline_s": _median(pipeline_s),
        "found": _summary(kind, script["found"]),
        "script_found": script["found"],
        "script_inside_s": _median(inside_s),
    }


def run_warm(cold: dict[str, Any], repeat: int) -> dict[str, Any]:
    """The script without its imports and model loading, against flow runs in a warm process and cluster."""
    times, stages, found = _warm_pipeline(cold["kind"], cold["source"], repeat)
    _check(cold["kind"], cold["script_found"], found)
    return cold | {
        "start": "warm",
        "script_s": cold["script_inside_s"],
        "pipeline_s": _median(times),
        "stages": stages,
    }


def script_video(source: str) -> dict[str, Any]:
    """Every frame decoded, one a second detected, one at a time."""
    import cv2
    from ultralytics import YOLO

    from tasks.core.models import weights

    models_dir = Path(os.environ["REELFLOW_MODELS_DIR"])
    model: Any = YOLO(weights.resolve_yolo("auto", models_dir).path)
    model.predict([_blank()], verbose=False)
    started = time.perf_counter()
    capture = cv2.VideoCapture(source)
    fps = capture.get(cv2.CAP_PROP_FPS)
    counts: Counter[str] = Counter()
    number, wanted = 0, 0
    while True:
        read, frame = capture.read()
        if not read:
            break
        if number >= round(wanted * fps):
            boxes = model.predict(frame, conf=0.35, verbose=False)[0].boxes
            counts.update(model.names[int(c)] for c in boxes.cls)
            wanted += 1
        number += 1
    return {"found": dict(counts), "seconds": time.perf_counter() - started}


def script_speech(source: str) -> dict[str, Any]:
    """Speech found, then each stretch of it transcribed by itself."""
    import numpy as np
    import torch
    import whisper
    from imageio_ffmpeg import get_ffmpeg_exe
    from whisper.model import ModelDimensions, Whisper

    from tasks.core.models import bundled, weights
    from tasks.core.options import SegmentOptions
    from tasks.core.segments import segment_speech

    checkpoint = bundled.expand_checkpoint(torch.load(weights.resolve_whisper("bundled", None).path, weights_only=True))
    model = Whisper(ModelDimensions(**checkpoint["dims"]))
    model.load_state_dict(checkpoint["model_state_dict"])
    model.eval()
    whisper.transcribe(model, np.zeros(16000, np.float32), fp16=False)
    started = time.perf_counter()
    command = [
        get_ffmpeg_exe(),
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        source,
        "-ac",
        "1",
        "-ar",
        "16000",
        "-f",
        "s16le",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(raw, np.int16).astype(np.float32) / 32768.0
    said = []
    for interval in segment_speech(samples, SegmentOptions()):
        clip = samples[int(interval.start * 16000) : int(interval.end * 16000)]
        said.append(whisper.transcribe(model, clip, fp16=False, condition_on_previous_text=False)["text"].strip())
    return {"found": " ".join(said), "seconds": time.perf_counter() - started}


SCRIPTS = {"video": script_video, "speech": script_speech}


def _cold_script(kind: str, source: str) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks", "pipeline", "--script", kind, source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1]), time.perf_counter() - started


def _cold_pipeline(kind: str, source: str) -> tuple[Any, float]:
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "flows", "analyze", source, "--store", store, "--json"]
        command += [word for option in OPTIONS[kind] for word in ("--set", option)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        return _found(kind, store, json.loads(done.stdout)["media_id"]), seconds


def _warm_pipeline(kind: str, source: str, repeat: int) -> tuple[list[float], dict[str, float], Any]:
    from flows.analyze_media import analyze_media
    from tasks.core.options import parse_options

    options = parse_options(OPTIONS[kind])
    times: list[float] = []
    store, media_id = "", ""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat + 1):
            store = f"{folder}/{number}"
            started = time.perf_counter()
            state: Any = analyze_media(source=source, store=store, options=options, return_state=True)
            times.append(time.perf_counter() - started)
            media_id = state.result(_sync=True)["media_id"]
        result = _result(store, media_id)
        return times[1:], {name: timing.wall_s for name, timing in result.timing.items()}, _found(kind, store, media_id)


def _result(store: str, media_id: str) -> Any:
    from tasks.results import read_result
    from tasks.store import open_store

    found = read_result(open_store(store), media_id)
    assert found is not None, f"no result of {media_id} in {store}"
    return found[0]


def _found(kind: str, store: str, media_id: str) -> Any:
    result = _result(store, media_id)
    return dict(result.detections.classes) if kind == "video" else result.transcript.text


def _check(kind: str, script: Any, pipeline: Any) -> None:
    if kind == "speech":
        assert _words(script) == _words(pipeline), f"different text:\n  script   {script}\n  pipeline {pipeline}"
        return
    for name in script.keys() | pipeline.keys():
        one, other = script.get(name, 0), pipeline.get(name, 0)
        assert abs(one - other) <= max(2, COUNT_TOLERANCE * max(one, other)), f"{name}: script {one}, pipeline {other}"


def _words(text: str) -> list[str]:
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()


def _summary(kind: str, found: Any) -> str:
    return f"{len(found.split())} words" if kind == "speech" else ", ".join(f"{n} {c}" for n, c in found.items())


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _blank() -> Any:
    import numpy as np

    return np.zeros((432, 768, 3), np.uint8)
