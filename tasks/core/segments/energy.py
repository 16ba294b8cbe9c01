"""Energy split: frames well above the noise floor and not too far below the loudest.

`librosa.effects.split` marks what lies within `top_db` of the loudest frame of the whole file, which turns steady
noise into speech and, after one bang, speech into silence. Here the same frame energies (librosa's RMS) are compared
with levels of their surroundings: a frame is speech when it is less than `top_db` below the loud level around it and
at least MARGIN_DB above the noise floor around it. Digital silence gives no segments; neither does steady noise or a
steady tone, which is its own floor. Anything else that rises above its surroundings counts as speech, music included.
"""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt

from tasks.core.options import SegmentOptions
from tasks.core.segments import SAMPLE_RATE, Activity, read_block

HOP = 160
"""Samples between frames, 10 ms."""
FRAME = 640
"""Samples per frame, 40 ms: spans several periods of a low voice."""
BLOCK = 6_000
"""Frames evaluated together, 60 s: bounds memory to about 16 MB."""
CONTEXT_S = 30.0
"""Stretch that gives the noise floor and the loud level of the second in its middle."""
FLOOR_PERCENT, LOUD_PERCENT = 10, 98
MARGIN_DB = 9.0
SILENCE_DB = -70.0
"""dB relative to full scale. Frames below are silence whatever surrounds them, and the floor is never lower."""


def activity(audio: npt.NDArray[np.float32], options: SegmentOptions) -> Activity:
    """Frames of 10 ms that are speech by the rule above."""
    level = frame_levels(audio)
    floor, loud = surrounding_levels(level)
    speech = level > np.maximum(np.maximum(floor + MARGIN_DB, loud - options.top_db), SILENCE_DB)
    return Activity(speech, HOP / SAMPLE_RATE)


def frame_levels(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """RMS level around the middle of each 10 ms, in dB relative to full scale: shape (ceil(samples / HOP),)."""
    frames = -(-audio.size // HOP)
    margin = (FRAME - HOP) // 2
    level = np.empty(frames, np.float32)
    for first in range(0, frames, BLOCK):
        last = min(first + BLOCK, frames)
        block = read_block(audio, first * HOP - margin, (last - first - 1) * HOP + FRAME)
        rms = librosa.feature.rms(y=block, frame_length=FRAME, hop_length=HOP, center=False)[0]
        level[first:last] = librosa.amplitude_to_db(rms, ref=1.0, amin=1e-6, top_db=None)
    return level


def surrounding_levels(level: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Noise floor and loud level around each frame: percentiles of the frames within CONTEXT_S, for each second."""
    second = SAMPLE_RATE // HOP
    reach = int(CONTEXT_S * second / 2)
    floor, loud = np.empty_like(level), np.empty_like(level)
    for first in range(0, len(level), second):
        middle = first + second // 2
        context = np.maximum(level[max(middle - reach, 0) : middle + reach], SILENCE_DB)
        here = slice(first, first + second)
        floor[here], loud[here] = np.percentile(context, (FLOOR_PERCENT, LOUD_PERCENT))
    return floor, loud
