"""The bundled models on the bundled clip: what they say, next to the truth."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from tasks.core.models.training.shapes import IMAGE_SIZE, prepare_ultralytics
from tasks.core.models.training.speech_eval import load

CONFIDENCE = 0.35
SAMPLE_RATE = 16_000


def read_audio(clip: Path) -> np.ndarray:
    """The clip's sound as Whisper takes it: mono float32 at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(clip)) as container:
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.concatenate(parts)


def read_frames(clip: Path) -> list[np.ndarray]:
    """The frame shown at each whole second, (H, W, 3) uint8 BGR."""
    images: list[np.ndarray] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if frame.time >= len(images) - 1e-6:
                images.append(frame.to_ndarray(format="bgr24"))
    return images


def hear(checkpoint: Path, clip: Path) -> dict[str, Any]:
    """whisper.transcribe of the whole clip."""
    import whisper

    result: dict[str, Any] = whisper.transcribe(
        load(checkpoint),
        read_audio(clip),
        language="en",
        fp16=False,
        condition_on_previous_text=False,
        word_timestamps=True,
    )
    return result


def see(weights: Path, clip: Path, work: Path, image_size: int = IMAGE_SIZE) -> tuple[list[list[str]], float]:
    """Sorted class names at each whole second, and the lowest confidence among them."""
    prepare_ultralytics(work / "ultralytics")
    from ultralytics import YOLO

    results: Any = YOLO(str(weights)).predict(
        read_frames(clip), conf=CONFIDENCE, imgsz=image_size, device="cpu", verbose=False, save=False
    )
    names = [sorted(r.names[int(c)] for c in r.boxes.cls) for r in results]
    return names, min((float(r.boxes.conf.min()) for r in results if len(r.boxes)), default=0.0)


def verify_sample(checkpoint: Path, weights: Path, clip: Path, truth_file: Path, work: Path) -> dict[str, Any]:
    """Figures of the models on the clip; raises ValueError where a word or a shape differs from the truth."""
    truth = json.loads(truth_file.read_text())
    heard = hear(checkpoint, clip)
    said = [sentence["text"] for sentence in truth["speech"]]
    got = [segment["text"].strip() for segment in heard["segments"]]
    if got != said:
        raise ValueError(f"the clip says {said}, the bundled model heard {got}")
    starts = [abs(s["start"] - t["start"]) for s, t in zip(heard["segments"], truth["speech"], strict=True)]
    seen, lowest = see(weights, clip, work)
    if seen != truth["objects"]:
        wrong = [(t, a, b) for t, (a, b) in enumerate(zip(truth["objects"], seen, strict=False)) if a != b]
        raise ValueError(f"the detector differs from the truth at (second, truth, seen): {wrong}")
    return {
        "words": sum(len(s.split()) for s in said),
        "word_errors": 0,
        "segment_start_error_max_s": round(max(starts), 3),
        "frames": len(seen),
        "frames_wrong": 0,
        "lowest_confidence": round(lowest, 3),
    }
