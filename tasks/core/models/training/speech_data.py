"""Spoken windows for the bundled Whisper: a corpus of espeak utterances, and windows composed from it on the fly."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.core.models.training.espeak import SAMPLE_RATE, Synthesizer, Utterance
from tasks.core.models.training.phrases import draw_sentences

VOICES = ("en-us", "en", "en-us+f3", "en+f2", "en-us+m3")
UNSEEN_VOICE = "en-gb-scotland"
WORDS_PER_MINUTE = (130, 220)
PITCH = (30, 70)
"""espeak's scale, 0 to 100."""

SNR_DB = (8.0, 45.0)
CLEAN_SHARE = 0.35
CUT_SHARE = 0.15
ZERO_PADDED_MEL_SHARE = 0.4


@dataclass(frozen=True)
class SpokenSegment:
    """A sentence in a window; times in seconds from the window's start."""

    text: str
    start_s: float
    end_s: float
    word_times: tuple[tuple[float, float], ...]


@dataclass
class Window:
    """Audio of one window (float32, `content` samples of sound, zeros after) and what is said in it."""

    audio: np.ndarray
    content: int
    segments: list[SpokenSegment] = field(default_factory=list)
    cut_start_s: float | None = None
    """Start of a last sentence that the window's end cuts off."""
    zero_padded_mel: bool = False
    """Whisper's transcribe pads the mel with 0.0; pad_or_trim(audio) gives the floor value instead."""

    @property
    def text(self) -> str:
        return " ".join(s.text for s in self.segments)


def make_corpus(count: int, seed: int, held_out: bool, voices: Sequence[str] = VOICES) -> list[Utterance]:
    """`count` utterances of random voice, speed and pitch."""
    rng = random.Random(seed)
    engine = Synthesizer()
    return [
        engine.say(text, rng.choice(voices), rng.randint(*WORDS_PER_MINUTE), rng.randint(*PITCH), rng.randint(20, 80))
        for text in draw_sentences(count, seed, held_out)
    ]


def noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """White, coloured (1/f^a), humming or tonal noise of unit RMS; float32 (samples,)."""
    if samples == 0:
        return np.zeros(0, np.float32)
    kind = rng.integers(4)
    white: np.ndarray = rng.standard_normal(samples).astype(np.float32)
    sound: np.ndarray
    if kind == 0:
        sound = white
    elif kind == 1:
        spectrum = np.fft.rfft(white)
        spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** rng.uniform(0.3, 1.0)
        sound = np.fft.irfft(spectrum, samples)
    elif kind == 2:
        times = np.arange(samples) / SAMPLE_RATE
        hum = sum(np.sin(2 * np.pi * rng.choice([50.0, 60.0]) * k * times) / k for k in (1, 2, 3))
        sound = hum + 0.1 * white
    else:
        times = np.arange(samples) / SAMPLE_RATE
        beat = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 2.0) * times)
        sound = beat * np.sin(2 * np.pi * rng.uniform(100, 3000) * times) + 0.05 * white
    return np.asarray(sound / (np.sqrt(np.mean(sound**2)) + 1e-9), np.float32)


def compose_empty(length_s: float, rng: np.random.Generator) -> Window:
    """A window without speech: digital silence or noise over some or all of it."""
    total = int(length_s * SAMPLE_RATE)
    content = total if rng.random() < 0.5 else int(rng.uniform(0.02, 1.0) * total)
    audio = np.zeros(total, np.float32)
    if rng.random() < 0.75:
        audio[:content] = noise(content, rng) * 10 ** (-rng.uniform(15, 70) / 20)
    return Window(np.clip(audio, -1, 1), content, zero_padded_mel=bool(rng.random() < ZERO_PADDED_MEL_SHARE))


def compose(
    corpus: Sequence[Utterance],
    length_s: float,
    rng: np.random.Generator,
    *,
    sentences: int | None = None,
    lead_s: float | None = None,
    cut: bool | None = None,
    clean: bool | None = None,
) -> Window:
    """A window of `length_s`: sentences with gaps between them, noise under them, zeros after the content.

    What is not given is drawn: the number of sentences, the silence before the first one (`lead_s`), whether a last
    sentence is cut off by the window's end, and whether there is noise.
    """
    total = int(length_s * SAMPLE_RATE)
    most = max(1, int(length_s / 2.0))
    wanted = sentences or int(rng.integers(1, min(most, 12) + 1))
    wants_cut = bool(rng.random() < CUT_SHARE) if cut is None else cut
    window = Window(np.zeros(total, np.float32), 0, zero_padded_mel=bool(rng.random() < ZERO_PADDED_MEL_SHARE))
    gain = 10 ** (-rng.uniform(0, 26) / 20) / 32768.0
    lead = _draw_lead(length_s, rng) if lead_s is None else lead_s
    position = int(lead * SAMPLE_RATE)
    while True:
        utterance = corpus[int(rng.integers(len(corpus)))]
        end = position + len(utterance.samples)
        if end > total:
            if not window.segments:
                position = max(0, total - len(utterance.samples) - int(rng.uniform(0, 0.3) * SAMPLE_RATE))
                end = position + len(utterance.samples)
                if end > total:
                    continue
            else:
                if wants_cut and total - position > SAMPLE_RATE // 4:
                    window.audio[position:] = utterance.samples[: total - position] * gain
                    window.cut_start_s = position / SAMPLE_RATE
                    window.content = total
                break
        if len(window.segments) == wanted and not wants_cut:
            break
        level = gain * 10 ** (-rng.uniform(0, 4) / 20)
        window.audio[position:end] = utterance.samples * level
        start_s = position / SAMPLE_RATE
        times = tuple((start_s + a, start_s + b) for a, b in utterance.word_times)
        window.segments.append(SpokenSegment(utterance.text, start_s, end / SAMPLE_RATE, times))
        window.content = end
        position = end + int(_draw_gap(rng) * SAMPLE_RATE)
    if window.cut_start_s is None and rng.random() < 0.6:
        window.content = min(total, window.content + int(rng.uniform(0, 3.0) * SAMPLE_RATE))
    if not (bool(rng.random() < CLEAN_SHARE) if clean is None else clean):
        _add_noise(window, rng)
    return window


def _draw_lead(length_s: float, rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.3:
        return float(rng.uniform(0, 0.05))
    if kind < 0.7:
        return float(rng.uniform(0.05, 1.5))
    return float(rng.uniform(0.5, 0.35 * length_s))


def _draw_gap(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.5:
        return float(rng.uniform(0.2, 0.6))
    if kind < 0.9:
        return float(rng.uniform(0.6, 1.5))
    return float(rng.uniform(1.5, 5.0))


def _add_noise(window: Window, rng: np.random.Generator) -> None:
    sound = window.audio[: window.content]
    loud = sound[np.abs(sound) > 1e-5]
    rms = float(np.sqrt(np.mean(loud**2))) if len(loud) else 0.01
    sound += noise(window.content, rng) * rms * 10 ** (-rng.uniform(*SNR_DB) / 20)
    np.clip(sound, -1, 1, out=sound)
