"""Longer media and costlier weights for benchmarks, made once from the test media and the bundled models."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from tasks.core.models import bundled
from tasks.settings import settings

VIDEOS = (
    "one-by-one-person-detection.mp4",
    "sintel.mp4",
    "people.mp4",
    "bangkok_half_res.mp4",
    "psd_testvideo.mp4",
)
SIZE, FPS = (1280, 720), 25
AUDIO_LAYERS, TEXT_LAYERS = 20, 8
"""As many multiplications per window as Whisper tiny needs: 4 layers, but three times as wide."""

ENGLISH = "tiny.en.pt"

RECIPE = 1
"""Counts changes of what is made here: older files are not used."""


def test_media() -> Path:
    """The folder of real videos. Raises SystemExit with what to do when there is none."""
    folder = Path(os.environ.get("REELFLOW_TEST_MEDIA", ""))
    if not (folder / "video" / VIDEOS[0]).is_file():
        raise SystemExit("This benchmark reads real videos: set REELFLOW_TEST_MEDIA to the folder that holds video/")
    return folder


def yolo_weights() -> Path:
    """YOLO11n of REELFLOW_MODELS_DIR. Raises SystemExit with what to do when there is none."""
    from tasks.core.models import weights

    if settings().models is None:
        raise SystemExit("This benchmark needs YOLO weights: set REELFLOW_MODELS_DIR to the folder that holds them")
    return weights.resolve_yolo("auto", settings().models).path


def english_whisper() -> Path:
    """Real Whisper weights for English, tiny.en.pt of REELFLOW_MODELS_DIR, in a folder where they can be converted.

    Raises SystemExit with what to do when there are none.
    """
    folder = settings().models
    found = folder / ENGLISH if folder else None
    if found is None or not found.is_file():
        raise SystemExit(f"This benchmark needs real weights: set REELFLOW_MODELS_DIR to a folder with {ENGLISH}")
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    made = cache_folder() / digest / ENGLISH
    made.parent.mkdir(exist_ok=True)
    made.unlink(missing_ok=True)
    made.symlink_to(found)
    return made


def long_video(minutes: float, sound: Path = bundled.SAMPLE_CLIP) -> Path:
    """An MP4 of 1280x720 at 25 frames/s, H.264 with x264's default key frames, and sound.

    The pictures are the test videos one after another; pictures and sound both start again until the time is full.
    """
    folder = cache_folder()
    made = folder / f"{minutes:g}-minutes {sound.parent.name} {sound.stem}.mp4"
    if made.is_file():
        return made
    pieces = [_piece(test_media() / "video" / name, folder) for name in VIDEOS]
    listed = folder / "pieces.txt"
    seconds = minutes * 60
    rounds = int(seconds // sum(map(_seconds, pieces))) + 1
    listed.write_text("".join(f"file '{piece.name}'\n" for _ in range(rounds) for piece in pieces), encoding="utf-8")
    partial = made.with_suffix(".partial.mp4")
    pictures = ["-f", "concat", "-i", str(listed)]
    heard = ["-stream_loop", "-1", "-i", str(sound)]
    codecs = ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy", "-c:a", "aac", "-b:a", "128k"]
    _ffmpeg([*pictures, *heard, *codecs, "-t", f"{seconds:g}", str(partial)])
    return partial.replace(made)


def deep_whisper() -> Path:
    """The bundled speech model with layers that change nothing: its answers, at the cost of a published one.

    The layers that are added have output projections of zero, so that each adds 0 to the residual stream, after all of
    its work.  openai-whisper's checkpoint format, full vocabulary.
    """
    import torch

    made = cache_folder() / f"whisper-deep-{AUDIO_LAYERS}-{TEXT_LAYERS}.pt"
    if made.is_file():
        return made
    checkpoint = bundled.expand_checkpoint(torch.load(bundled.SPEECH_CHECKPOINT, weights_only=True))
    dims, state = dict(checkpoint["dims"]), dict(checkpoint["model_state_dict"])
    for part, name, layers in (("encoder", "n_audio_layer", AUDIO_LAYERS), ("decoder", "n_text_layer", TEXT_LAYERS)):
        own = {key: value for key, value in state.items() if key.startswith(f"{part}.blocks.0.")}
        for number in range(dims[name], layers):
            for key, value in own.items():
                output = ".out." in key or ".mlp.2." in key
                added = key.replace(".blocks.0.", f".blocks.{number}.")
                state[added] = torch.zeros_like(value) if output else value.clone()
        dims[name] = layers
    partial = made.with_suffix(".partial")
    torch.save({"dims": dims, "model_state_dict": state}, partial)
    return partial.replace(made)


def openai_whisper(path: Path) -> Any:
    """A checkpoint as openai-whisper's own network, float32, on the CPU."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    checkpoint = bundled.expand_checkpoint(torch.load(path, weights_only=True))
    network = Whisper(ModelDimensions(**checkpoint["dims"]))
    network.load_state_dict(checkpoint["model_state_dict"])
    return network.eval()


def read_samples(source: Path) -> Any:
    """All of a file's sound as float32 (samples,), mono, 16 kHz, by one ffmpeg process."""
    command = ["-i", str(source), "-vn", "-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    return np.frombuffer(_ffmpeg(command), np.int16).astype(np.float32) / 32768.0


def cache_folder() -> Path:
    """Where what is made here is kept between runs; `RECIPE` is part of its name."""
    folder = settings().cache / "benchmarks" / str(RECIPE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _piece(source: Path, folder: Path) -> Path:
    made = folder / f"{source.stem}.mp4"
    if not made.is_file():
        width, height = SIZE
        fit = f"scale={width}:{height}:force_original_aspect_ratio=decrease"
        pad = f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,fps={FPS},format=yuv420p"
        partial = made.with_suffix(".partial.mp4")
        encode = ["-c:v", "libx264", "-preset", "fast", "-video_track_timescale", "12800"]
        _ffmpeg(["-i", str(source), "-an", "-vf", f"{fit},{pad}", *encode, str(partial)])
        partial.replace(made)
    return made


def _seconds(path: Path) -> float:
    import av

    with av.open(str(path)) as container:
        return float(container.duration or 0) / 1e6


def _ffmpeg(arguments: Sequence[str]) -> bytes:
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
