"""The bundled sample clip: two drawn scenes with a commentary, and the truth about it."""

import json
import math
import subprocess
import wave
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from tasks.core.models.training.drawing import CLASSES, PALETTE, Shape, draw
from tasks.core.models.training.espeak import SAMPLE_RATE, Synthesizer
from tasks.core.models.training.phrases import is_held_out

WIDTH, HEIGHT = 640, 360
FPS = 25
DURATION_S = 25.0
CUT_S = 12.6
STAR_ENTERS_S = 5.4
SQUARE_ENTERS_S = 20.6

FIRST_VOICE, SECOND_VOICE = "en-us", "en+f2"
WORDS_PER_MINUTE = 155
SCRIPT: tuple[tuple[float, str, str], ...] = (
    (0.6, FIRST_VOICE, "the red circle moves right"),
    (0.7, SECOND_VOICE, "a green square waits right"),
    (0.7, FIRST_VOICE, "the yellow star jumps here"),
    (0.6, SECOND_VOICE, "one yellow star right"),
    (3.4, SECOND_VOICE, "a blue ring moves left"),
    (0.7, FIRST_VOICE, "a purple triangle moves down"),
    (0.6, SECOND_VOICE, "the orange cross waits here"),
    (0.7, FIRST_VOICE, "a black square turns right"),
)
"""Seconds of silence before each sentence, its voice, its words; every sentence is one that training never saw."""

SPEECH_GAIN = 0.5
ROOM_TONE = 10 ** (-66 / 20)


@dataclass(frozen=True)
class Spoken:
    """A sentence of the clip; seconds."""

    start: float
    end: float
    text: str


def make_speech() -> tuple[np.ndarray, list[Spoken]]:
    """The clip's audio, float32 at 16 kHz over a faint room tone, and its sentences."""
    samples = np.random.default_rng(0).standard_normal(int(DURATION_S * SAMPLE_RATE)).astype(np.float32) * ROOM_TONE
    engine = Synthesizer()
    spoken: list[Spoken] = []
    position = 0
    for gap_s, voice, text in SCRIPT:
        if not is_held_out(text):
            raise ValueError(f"{text!r} is among the training sentences")
        utterance = engine.say(text, voice, WORDS_PER_MINUTE, 50, 50)
        start = position + int(gap_s * SAMPLE_RATE)
        position = start + len(utterance.samples)
        if position > len(samples):
            raise ValueError(f"the script is longer than {DURATION_S} s")
        samples[start:position] += utterance.samples.astype(np.float32) / 32768 * SPEECH_GAIN
        spoken.append(Spoken(round(start / SAMPLE_RATE, 3), round(position / SAMPLE_RATE, 3), text))
    return samples, spoken


def shapes_at(time_s: float) -> list[Shape]:
    """What is on screen at a time."""
    if time_s < CUT_S:
        shapes = [
            Shape("circle", 90 + 340 * time_s / CUT_S, 90, 42, 0.0, PALETTE["red"]),
            Shape("square", 530, 250, 56, 0.0, PALETTE["green"]),
        ]
        if time_s >= STAR_ENTERS_S:
            hop = 40 * abs(math.sin(math.pi * (time_s - STAR_ENTERS_S)))
            shapes.append(Shape("star", 200, 264 - hop, 54, 0.0, PALETTE["yellow"]))
        return shapes
    since = (time_s - CUT_S) / (DURATION_S - CUT_S)
    shapes = [
        Shape("ring", 560 - 440 * since, 80, 50, 0.0, PALETTE["blue"]),
        Shape("triangle", 150, 210 + 80 * since, 54, 0.0, PALETTE["purple"]),
        Shape("cross", 340, 250, 50, 0.0, PALETTE["orange"]),
    ]
    if time_s >= SQUARE_ENTERS_S:
        shapes.append(Shape("square", 520, 250, 54, 0.5 * (time_s - SQUARE_ENTERS_S), PALETTE["black"]))
    return shapes


def _backgrounds() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    slope = ((x / WIDTH + y / HEIGHT) / 2)[..., None]
    night = (1 - slope) * np.array([60, 28, 18]) + slope * np.array([130, 80, 46])
    squares = ((x // 40 + y // 40) % 2)[..., None]
    paper = (1 - squares) * np.array([212, 228, 232]) + squares * np.array([188, 210, 216])
    return night.astype(np.uint8), paper.astype(np.uint8)


def frames() -> Iterator[np.ndarray]:
    """Every frame of the clip, (360, 640, 3) uint8 BGR."""
    night, paper = _backgrounds()
    for index in range(round(DURATION_S * FPS)):
        time_s = index / FPS
        image = (night if time_s < CUT_S else paper).copy()
        for shape in shapes_at(time_s):
            draw(image, shape)
        yield cv2.GaussianBlur(image, (0, 0), 0.6)


def truth(spoken: list[Spoken]) -> dict[str, object]:
    """What sample.json says of the clip; `objects[t]` are the classes visible at t seconds, sorted."""
    return {
        "duration_s": DURATION_S,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": FPS,
        "cut_s": [CUT_S],
        "speech": [asdict(sentence) for sentence in spoken],
        "objects": [sorted(shape.name for shape in shapes_at(float(t))) for t in range(math.ceil(DURATION_S))],
        "shapes": list(CLASSES),
    }


def encode(samples: np.ndarray, work: Path, target: Path) -> None:
    """H.264 and AAC in one MP4, the same bytes for the same input and ffmpeg."""
    import imageio_ffmpeg

    sound = work / "sample.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "pipe:0"]
    video = ["-c:v", "libx264", "-preset", "slow", "-crf", "24", "-pix_fmt", "yuv420p", "-threads", "1"]
    audio = ["-c:a", "aac", "-ar", "48000", "-b:a", "72k"]
    exact = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *raw, "-i", str(sound)]
    command += [*video, *audio, *exact, "-t", str(DURATION_S), "-movflags", "+faststart", str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        if process.stdin is not None:
            for image in frames():
                process.stdin.write(image.tobytes())
    if process.returncode != 0:
        raise RuntimeError("ffmpeg could not encode the sample clip; its message is above")


def make_sample(work: Path, clip: Path, truth_file: Path) -> None:
    """Draw, speak and encode the clip, and write its truth beside it."""
    samples, spoken = make_speech()
    encode(samples, work, clip)
    truth_file.write_text(json.dumps(truth(spoken), indent=1) + "\n")
    print(f"sample: {clip.stat().st_size / 1e3:.0f} kB, {sum(s.end - s.start for s in spoken):.1f} s of speech")
