"""Sounds in which nothing is said: silence, noises, hum, a tune, applause, film music; each the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks._media import cache_folder, read_samples
from benchmarks._speech_corpus import RATE, Recording

FILM = "video/sintel.mp4"
LEVEL = 0.1
"""Root mean square of what is made here, of full scale: -20 dB."""
TUNE = (60, 62, 64, 65, 67, 67, 69, 69, 69, 69, 67, 65, 65, 65, 65, 64, 64, 62, 62, 60)
"""MIDI numbers, one every BEAT_S."""
BEAT_S = 0.4

Audio = npt.NDArray[np.float32]


def unspoken(media: Path, seconds: float, seed: int) -> list[Recording]:
    """Eight FLAC files of `seconds`, 16 kHz mono, and no sentence in any of them."""
    folder = cache_folder() / f"unspoken-{seconds:g}-{seed}"
    folder.mkdir(exist_ok=True)
    made, count = [], round(seconds * RATE)
    film = read_samples(media / FILM)
    for number, (name, make) in enumerate(SOUNDS.items()):
        path = folder / f"{name}.flac"
        soundfile.write(path, at_level(make(count, np.random.default_rng([seed, number]))), RATE, subtype="PCM_16")
        made.append(Recording(path, []))
    made.append(Recording(folder / "film_music.flac", []))
    soundfile.write(made[-1].path, np.resize(film, count), RATE, subtype="PCM_16")
    return made


def at_level(sound: Audio) -> Audio:
    """Scaled to LEVEL; silence stays silence, and what would be beyond full scale is cut off."""
    power = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    return np.clip(sound * (LEVEL / power), -1, 1).astype(np.float32) if power else sound


def silence(count: int, _choose: Any) -> Audio:
    """Zeros."""
    return np.zeros(count, np.float32)


def coloured(exponent: float) -> Callable[[int, Any], Audio]:
    """Noise whose power falls with frequency to this power: 0 white, 1 pink, 2 brown; nothing below 20 Hz."""

    def noise(count: int, choose: Any) -> Audio:
        spectrum = np.fft.rfft(choose.standard_normal(count))
        frequency = np.fft.rfftfreq(count, 1 / RATE)
        shape = np.where(frequency < 20, 0.0, np.maximum(frequency, 20.0) ** (-exponent / 2))
        return np.fft.irfft(spectrum * shape, count).astype(np.float32)

    return noise


def hum(count: int, choose: Any) -> Audio:
    """Mains of 50 Hz with 19 harmonics, the odd ones stronger."""
    time = np.arange(count) / RATE
    parts = [(1.0 if order % 2 else 0.3) / order for order in range(1, 21)]
    phases = choose.uniform(0, 2 * np.pi, len(parts))
    waves = (
        size * np.sin(2 * np.pi * 50 * order * time + phase)
        for order, (size, phase) in enumerate(zip(parts, phases, strict=True), 1)
    )
    made: Audio = np.sum(list(waves), axis=0).astype(np.float32)
    return made


def tune(count: int, choose: Any) -> Audio:
    """A melody of plucked notes, each with six harmonics that die away, over a low fifth."""
    time = np.arange(round(RATE * BEAT_S)) / RATE
    notes = []
    for beat in range(count // time.size + 1):
        pitches = (TUNE[beat % len(TUNE)] + int(choose.choice((0, 12))), 48, 55)
        tones = [440 * 2 ** ((pitch - 69) / 12) for pitch in pitches]
        attack = np.minimum(1, time / 0.01) * np.exp(-4 * time)
        sounds = [np.sin(2 * np.pi * tone * order * time) / order**1.5 for tone in tones for order in range(1, 7)]
        notes.append(attack * np.sum(sounds, axis=0))
    return np.concatenate(notes)[:count].astype(np.float32)


def applause(count: int, choose: Any) -> Audio:
    """Bursts of clapping, six seconds on and three off: many short claps of noise that swell and fade."""
    made = np.zeros(count)
    clap = np.exp(-np.arange(round(0.02 * RATE)) / (0.004 * RATE))
    for start in range(0, count, 9 * RATE):
        for at in start + choose.integers(0, 6 * RATE, 1200):
            burst = clap * np.diff(choose.standard_normal(clap.size + 1)) * choose.uniform(0.2, 1)
            swell = np.sin(np.pi * (at - start) / (6 * RATE))
            end = min(count, at + clap.size)
            made[at:end] += swell * burst[: max(0, end - at)]
    return made.astype(np.float32)


SOUNDS: dict[str, Callable[[int, Any], Audio]] = {
    "digital_silence": silence,
    "white_noise": coloured(0),
    "pink_noise": coloured(1),
    "brown_noise": coloured(2),
    "mains_hum": hum,
    "tune": tune,
    "applause": applause,
}
