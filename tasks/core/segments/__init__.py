"""Speech intervals of one audio track: two engines behind one function, one set of duration rules for both.

An engine module offers `activity(audio, options) -> Activity`: speech or not, frame by frame. Joining frames into
segments (pauses, minimum lengths, padding) is done here, so that the engines differ in nothing but what they hear.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.core.options import SegmentOptions
from tasks.core.schema import Interval

SAMPLE_RATE = 16_000
"""Hz; every stage after `audio` works at this rate."""

MAX_SAMPLE = 8.0
"""Full scale is 1; float files may exceed it a little. A hostile one must not overflow the arithmetic."""

_ENGINES = {"librosa": "tasks.core.segments.energy", "silero": "tasks.core.segments.silero"}


class Activity(NamedTuple):
    """Speech or not: frame i covers `[i * hop_s, (i + 1) * hop_s)`."""

    speech: npt.NDArray[np.bool_]
    """(frames,)"""
    hop_s: float


def segment_speech(audio: npt.NDArray[np.float32], options: SegmentOptions) -> list[Interval]:
    """Stretches of speech in media time, sorted and disjoint.

    `audio` is float32, mono, 16 kHz, shape (samples,), its first sample at media time 0; a memory map is read block
    by block. Pauses shorter than `min_silence_s` do not end a segment; what is then shorter than `min_speech_s` is
    dropped; `pad_s` is added at both ends, within the audio, and segments that touch after it are one.

    Raises ModelNotFound when the engine's weights are not installed, ValueError on audio of another shape.
    """
    if audio.ndim != 1:
        raise ValueError(f"audio must be mono, shape (samples,); got {audio.shape}")
    if audio.size == 0:
        return []
    engine = importlib.import_module(_ENGINES[options.engine])
    activity: Activity = engine.activity(audio, options)
    return join_frames(activity, audio.size / SAMPLE_RATE, options)


def read_block(audio: npt.NDArray[np.float32], begin: int, size: int) -> npt.NDArray[np.float32]:
    """`size` samples from `begin`, zeros outside the audio; what no microphone gives (NaN, infinity) becomes 0."""
    block = np.zeros(size, np.float32)
    samples = audio[max(begin, 0) : max(begin + size, 0)]
    offset = max(-begin, 0)
    block[offset : offset + samples.size] = samples
    return np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0).clip(-MAX_SAMPLE, MAX_SAMPLE)


def join_frames(activity: Activity, duration_s: float, options: SegmentOptions) -> list[Interval]:
    """Frames of speech to padded segments within `[0, duration_s]`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], activity.speech, [False])).astype(np.int8)))
    runs = [(float(start), min(float(end), duration_s)) for start, end in edges.reshape(-1, 2) * activity.hop_s]
    spoken = [run for run in _close_gaps(runs, options.min_silence_s) if run[1] - run[0] >= options.min_speech_s]
    padded = [(max(0.0, start - options.pad_s), min(duration_s, end + options.pad_s)) for start, end in spoken]
    return [Interval(start=round(start, 4), end=round(end, 4)) for start, end in _close_gaps(padded, 1e-4)]


def _close_gaps(runs: list[tuple[float, float]], gap_s: float) -> list[tuple[float, float]]:
    closed: list[tuple[float, float]] = []
    for start, end in runs:
        if closed and start - closed[-1][1] < gap_s:
            closed[-1] = (closed[-1][0], max(end, closed[-1][1]))
        else:
            closed.append((start, end))
    return closed
