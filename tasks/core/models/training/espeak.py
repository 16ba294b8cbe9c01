"""espeak-ng through ctypes: speech and the time of each word.  (Needs the `train` extra; not for the runtime.)"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.signal import resample_poly

SAMPLE_RATE = 16_000
"""Hz; what Whisper hears."""

_RETRIEVAL_MODE = 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARS_UTF8 = 1
_EVENT_END, _EVENT_WORD = 0, 1
_SPEECH_FLOOR_DB = -38.0
_FRAME = 160


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence, trimmed to its sound: int16 samples at 16 kHz and one (start, end) in seconds per word."""

    text: str
    samples: np.ndarray
    word_times: tuple[tuple[float, float], ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


class Synthesizer:
    """One espeak-ng engine; a process holds one, since the library keeps its state in globals."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._rate: int = self._lib.espeak_Initialize(
            _RETRIEVAL_MODE, 0, str(espeakng_loader.get_data_path()).encode(), 0
        )
        if self._rate <= 0:
            raise RuntimeError("espeak-ng did not start: reinstall espeakng-loader")
        self._chunks: list[np.ndarray] = []
        self._words: list[tuple[int, float]] = []
        self._callback = _Callback(self._receive)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, shape=(count,)).copy())
        index = 0
        while events and events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                self._words.append((events[index].text_position - 1, events[index].audio_position / 1000.0))
            index += 1
        return 0

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int) -> Utterance:
        """Speak `text`; pitch and range are espeak's 0 to 100 scales."""
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        self._words.clear()
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, len(data), 0, 0, 0, _CHARS_UTF8, None, None)
        self._lib.espeak_Synchronize()
        raw = np.concatenate(self._chunks).astype(np.float32)
        samples = resample_poly(raw, SAMPLE_RATE // 50, self._rate // 50)
        start, end = _sound_bounds(samples)
        trimmed = np.clip(samples[start:end], -32768, 32767).astype(np.int16)
        times = _word_times(text, self._words, start / SAMPLE_RATE, len(trimmed) / SAMPLE_RATE)
        return Utterance(text, trimmed, times)


def _sound_bounds(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample of the sound above the floor, on a 10 ms grid."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (_SPEECH_FLOOR_DB / 10))
    return int(loud[0]) * _FRAME, int(loud[-1] + 1) * _FRAME


def _word_times(
    text: str, events: list[tuple[int, float]], trim_s: float, duration_s: float
) -> tuple[tuple[float, float], ...]:
    """Word times from espeak's events; a word whose event was merged into its neighbour gets a share by letters."""
    positions: list[int] = []
    for word in text.split():
        positions.append(text.index(word, positions[-1] + 1 if positions else 0))
    seen = dict(events)
    known = [(i, seen[p] - trim_s) for i, p in enumerate(positions) if p in seen]
    if not known or known[0][0] != 0:
        known.insert(0, (0, 0.0))
    known.append((len(positions), duration_s))
    ends = [p + len(w) for p, w in zip(positions, text.split(), strict=True)]
    edges = [0.0] * (len(positions) + 1)
    for (i, t), (j, u) in pairwise(known):
        span = max(ends[j - 1] - positions[i], 1)
        for k in range(i, j):
            edges[k] = t + (u - t) * (positions[k] - positions[i]) / span
    edges[-1] = duration_s
    clipped = np.clip(np.maximum.accumulate(edges), 0.0, duration_s)
    return tuple((float(a), float(b)) for a, b in pairwise(clipped))
