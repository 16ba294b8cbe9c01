"""Loudness made even, stretch by stretch: quiet speech counts as speech, between loud sentences too.

Networks for speech were trained on recordings at a usual level. A microphone far away, or a second speaker who is
30 dB below the first, falls out of it; one gain for the whole recording would not help the second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
STEP_S = 0.1
"""The level is measured, and the gain set, so often; between two steps the gain is interpolated."""
REACH_S = 1.5
"""The loudest step within this distance gives the level: pauses of a sentence are not raised by themselves."""
TARGET_DB = -23.0
"""Level of speech, RMS relative to full scale, that the gain aims at (EBU R 128 asks programmes for as much)."""
MAX_GAIN_DB = 50.0
QUIET_DB = -35.0
"""Speech whose loudest 100 ms are below this is heard wrong by small networks, or not at all."""
SILENCE_DB = -90.0
"""Below it there is nothing to raise: the last bit of 16."""

_STEP = round(STEP_S * SAMPLE_RATE)
_REACH = round(REACH_S / STEP_S)


def gains(audio: Array) -> Array:
    """Gain in dB, 0 to 50, at the middle of each 100 ms of audio (float32, mono, 16 kHz): shape (steps,).

    Loud speech is left alone. A memory map is read a minute at a time.
    """
    steps = -(-audio.size // _STEP)
    if not steps:
        return np.zeros(0, np.float32)
    level = np.empty(steps, np.float32)
    for first in range(0, steps, 600):
        level[first : first + 600] = _levels(audio[first * _STEP : (first + 600) * _STEP])
    around = np.pad(level, _REACH, constant_values=-120.0)
    loudest = np.lib.stride_tricks.sliding_window_view(around, 2 * _REACH + 1).max(axis=1)
    gain = np.where(loudest < SILENCE_DB, 0.0, np.clip(TARGET_DB - loudest, 0.0, MAX_GAIN_DB))
    smooth = np.convolve(np.pad(gain, 3, mode="edge"), np.ones(7) / 7, "valid")
    return smooth.astype(np.float32)


def raise_quiet(samples: Array) -> Array:
    """Samples (n,) whose loudest 100 ms are below QUIET_DB, raised as a whole to TARGET_DB; louder ones as they are."""
    level = _levels(samples)
    if not level.size or not SILENCE_DB < level.max() < QUIET_DB:
        return samples
    gain_db = min(TARGET_DB - float(level.max()), MAX_GAIN_DB)
    raised: Array = np.clip(samples * np.float32(10 ** (gain_db / 20)), -1.0, 1.0)
    return raised


def _levels(block: Array) -> Array:
    """RMS of each 100 ms, in dB relative to full scale."""
    finite = np.nan_to_num(np.asarray(block, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if not finite.size:
        return np.zeros(0, np.float32)
    power = np.add.reduceat(np.square(finite), np.arange(0, finite.size, _STEP)) / _STEP
    decibels: Array = 10 * np.log10(power + 1e-12)
    return decibels


def apply_gains(block: Array, begin: int, gain_db: Array) -> Array:
    """Samples from `begin` of the recording that the gains were measured on, levelled and within full scale."""
    if not gain_db.any():
        return block
    places = (np.arange(begin, begin + block.size) / _STEP - 0.5).astype(np.float32)
    factors = 10 ** (np.interp(places, np.arange(gain_db.size), gain_db) / 20)
    levelled: Array = np.clip(block * factors, -1.0, 1.0).astype(np.float32)
    return levelled
