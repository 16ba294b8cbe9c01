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
from tasks.core.schema import Interval, Pause

SAMPLE_RATE = 16_000
"""Hz; every stage after `audio` works at this rate."""

MAX_SAMPLE = 8.0
"""Full scale is 1; float files may exceed it a little. A hostile one must not overflow the arithmetic."""

PAUSE_PROBABILITY = 0.35
"""Chunks less likely speech than this are no part of a word."""
PAUSE_CHUNKS = 3
"""So many of them in a row, 96 ms, are a pause; the silence within a plosive is shorter."""
QUIET_S = 0.02
"""Length of the stretch whose energy decides which moment of a pause is its quietest."""

_ENGINES = {"librosa": "tasks.core.segments.energy", "silero": "tasks.core.segments.silero"}


class Activity(NamedTuple):
    """Speech or not: frame i covers `[i * hop_s, (i + 1) * hop_s)`."""

    speech: npt.NDArray[np.bool_]
    """(frames,)"""
    hop_s: float


class Speech(NamedTuple):
    """What is known of a track before anything is transcribed."""

    segments: list[Interval]
    """Stretches of speech in media time, sorted and disjoint."""
    pauses: list[Pause]
    """Where they can be cut, in order of time."""
    voice: npt.NDArray[np.uint8]
    """Probability of speech for each 32 ms, 0 to 255."""


def find_speech(audio: npt.NDArray[np.float32], options: SegmentOptions) -> Speech:
    """Where someone speaks and pauses, as segment_speech; pauses and voice are Silero's with both engines."""
    from tasks.core.segments import silero

    probability = silero.speech_probabilities(audio)
    known = silero.decide(probability, options) if options.engine == "silero" else None
    segments = segment_speech(audio, options, known)
    voice = np.round(255 * probability).astype(np.uint8)
    return Speech(segments, _pauses(audio, probability, segments), voice)


def mean_voice(voice: npt.NDArray[np.uint8], start: float, end: float) -> float:
    """Mean probability of speech, 0 to 1, from `start` to `end` seconds; 0 outside the track."""
    from tasks.core.segments.silero import CHUNK

    first, last = int(start * SAMPLE_RATE / CHUNK), int(np.ceil(end * SAMPLE_RATE / CHUNK))
    stretch = voice[max(first, 0) : max(last, first + 1)]
    return int(stretch.sum(dtype=np.int64)) / (255 * stretch.size) if stretch.size else 0.0


def segment_speech(
    audio: npt.NDArray[np.float32], options: SegmentOptions, known: Activity | None = None
) -> list[Interval]:
    """Stretches of speech in media time, sorted and disjoint.

    `audio` is float32, mono, 16 kHz, shape (samples,), its first sample at media time 0; a memory map is read block
    by block. Pauses shorter than `min_silence_s` do not end a segment; what is then shorter than `min_speech_s` is
    dropped; `pad_s` is added at both ends, within the audio, and segments that touch after it are one. `known` is what
    the engine has found in this audio already.

    Raises ModelNotFound when the engine's weights are not installed, ValueError on audio of another shape.
    """
    if audio.ndim != 1:
        raise ValueError(f"audio must be mono, shape (samples,); got {audio.shape}")
    if audio.size == 0:
        return []
    if known is None:
        known = importlib.import_module(_ENGINES[options.engine]).activity(audio, options)
    return join_frames(known, audio.size / SAMPLE_RATE, options)


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


def _pauses(
    audio: npt.NDArray[np.float32], probability: npt.NDArray[np.float32], segments: list[Interval]
) -> list[Pause]:
    """The quietest moments of what is no speech within segments."""
    from tasks.core.segments.silero import CHUNK

    edges = np.flatnonzero(np.diff(np.concatenate(([False], probability < PAUSE_PROBABILITY, [False])).astype(np.int8)))
    found = []
    for first, last in edges.reshape(-1, 2):
        start, end = first * CHUNK / SAMPLE_RATE, last * CHUNK / SAMPLE_RATE
        if last - first >= PAUSE_CHUNKS and any(s.start < end and start < s.end for s in segments):
            found.append(Pause(time=_quietest(audio, start, end), duration_s=round(end - start, 4)))
    return found


def _quietest(audio: npt.NDArray[np.float32], start: float, end: float) -> float:
    """Middle of the QUIET_S with the least energy between two times; of equals the one nearest to the middle."""
    step = round(QUIET_S * SAMPLE_RATE)
    samples = np.asarray(audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], np.float64)
    steps = samples.size // step
    if not steps:
        return round((start + end) / 2, 4)
    energy = np.square(np.nan_to_num(samples[: steps * step])).reshape(steps, step).sum(axis=1)
    least = np.flatnonzero(energy == energy.min())
    nearest = least[np.argmin(np.abs(least - (steps - 1) / 2))]
    return round(start + (int(nearest) + 0.5) * QUIET_S, 4)
