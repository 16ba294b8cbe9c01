"""A bucket's worth of small media, made from a seed: videos, sound, broken objects, duplicates, hostile names."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["video", "audio", "broken", "duplicate"]

WITHOUT_SCENES = ("scenes.shots=false", "embeddings.enabled=false")
"""Options that leave out what the other sides of a comparison do not do: scene changes, tags and captions."""

BROKEN_SHARE = DUPLICATE_SHARE = 0.05
VIDEO_SHARE = 0.6
RATE = 16000
FPS = 8

# A line break is missing here only because moto's HTTP server refuses it.
HOSTILE = (
    "with spaces and 'quotes'.mp4",
    'double "quotes" & ampersand.mp4',
    "semi;colon $(touch x) `y`.mp4",
    "../escape/../../up.mp4",
    "percent%2e%2e%2fencoded.mp4",
    "-rf --option.mp4",
    "<script>alert(1)</script>.mp4",
    "smile \N{GRINNING FACE} n\N{COMBINING DIAERESIS}ame.mp4",
    "question?mark#hash.mp4",
    "back\\slash.mp4",
    "x" * 200 + ".mp4",
)


@dataclass(frozen=True)
class Object:
    key: str
    kind: Kind
    data: bytes
    content: int
    """Objects with the same number have the same bytes."""


def make_corpus(count: int, seed: int = 1) -> Iterator[Object]:
    """`count` objects in a fixed order; each good one is 1 to 2 s long, and no two are alike but for the duplicates."""
    choose = random.Random(seed)
    broken, duplicates = round(BROKEN_SHARE * count), round(DUPLICATE_SHARE * count)
    kinds: list[Kind] = []
    kinds += itertools.repeat("broken", broken)
    kinds += itertools.repeat("duplicate", duplicates)
    kinds += ["video" if choose.random() < VIDEO_SHARE else "audio" for _ in range(count - len(kinds))]
    good = [kind for kind in kinds if kind in ("video", "audio")]
    choose.shuffle(kinds)
    if not good:
        return
    first = next(i for i, kind in enumerate(kinds) if kind in ("video", "audio"))
    kinds[0], kinds[first] = kinds[first], kinds[0]
    originals: list[Object] = []
    for number, kind in enumerate(kinds):
        name = HOSTILE[number % len(HOSTILE)] if number % 8 == 7 else ("clip.mp4" if kind == "video" else "clip.ogg")
        key = f"day-{number % 7}/{number:05d} {name}"
        if kind == "duplicate":
            copied = choose.choice(originals)
            yield Object(key, kind, copied.data, copied.content)
            continue
        if kind == "broken":
            yield Object(key, kind, _broken(number), number)
            continue
        made = Object(key, kind, _video(number, choose) if kind == "video" else _audio(number, choose), number)
        originals.append(made)
        yield made


def tiny(number: int) -> bytes:
    """A video of four frames without sound, about 2 kB; each number gives other bytes."""
    return _encode([_picture(number, frame, 64, 48) for frame in range(4)], None)


def _broken(number: int) -> bytes:
    good = tiny(number)
    return (good[: len(good) // 2], b"", f"only text {number}".encode(), good[:64] + bytes(2000))[number % 4]


def _video(number: int, choose: random.Random) -> bytes:
    frames, sound = _sample()
    start = choose.randrange(max(1, len(frames) - 2 * FPS))
    pictures = [frames[(start + i) % len(frames)].copy() for i in range(choose.randint(FPS, 2 * FPS))]
    for picture in pictures:
        _mark(picture, number)
    with_sound = choose.random() < 0.5
    at = start * RATE // FPS
    return _encode(pictures, sound[at : at + len(pictures) * RATE // FPS] if with_sound else None)


def _audio(number: int, choose: random.Random) -> bytes:
    _, sound = _sample()
    start = choose.randrange(len(sound) - 2 * RATE)
    part = sound[start : start + choose.randint(RATE, 2 * RATE)].copy()
    part[:32] = np.frombuffer(np.int32(number).tobytes() * 16, np.int16)[:32] // 64
    return _encode([], part)


@cache
def _sample() -> tuple[list[NDArray[np.uint8]], NDArray[np.int16]]:
    """Frames (180, 320, 3) at 8 per second, and sound (16 kHz mono), of the sample that comes with Reelflow."""
    from tasks.core.models import bundled

    frames: list[NDArray[np.uint8]] = []
    sound: list[NDArray[Any]] = []
    with av.open(str(bundled.SAMPLE_CLIP)) as media:
        resampler = av.AudioResampler("s16", "mono", RATE)
        for packet in media.demux(media.streams.video[0], media.streams.audio[0]):
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    sound += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
                elif isinstance(frame, av.VideoFrame) and (frame.time or 0.0) * FPS >= len(frames):
                    frames.append(cv2.resize(frame.to_ndarray(format="rgb24"), (320, 180)).astype(np.uint8))
    return frames, np.concatenate(sound)


def _picture(number: int, frame: int, width: int, height: int) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), 40 + 20 * frame, np.uint8)
    _mark(picture, number)
    return picture


def _mark(picture: NDArray[np.uint8], number: int) -> None:
    """A row of 16 squares that spell the number, so that no two videos have the same bytes."""
    for bit in range(16):
        picture[:3, 4 * bit : 4 * bit + 4] = 255 if number >> bit & 1 else 0


def _encode(pictures: list[NDArray[np.uint8]], sound: NDArray[np.int16] | None) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4" if pictures else "ogg") as container:
        video = audio = None
        if pictures:
            video = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "ultrafast"})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt, video.thread_count = "yuv420p", 1
        if sound is not None:
            audio = container.add_stream("aac" if pictures else "flac", rate=RATE, layout="mono")
        if video:
            for picture in pictures:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(video.encode())
        if audio is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
            fifo = av.AudioResampler(audio.format, "mono", RATE, frame_size=audio.frame_size or 1024)
            for part in [*fifo.resample(frame), *fifo.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    return out.getvalue()
