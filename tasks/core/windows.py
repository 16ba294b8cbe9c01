"""Windows of audio for the speech model: neighbouring speech packed together, because every input costs 30 s.

Whisper pads whatever it is given to 30 s, so one short segment per input wastes most of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.core.schema import Interval, SpeechWindow

SAMPLE_RATE = 16_000
QUIET_S = 0.2
"""Length of the stretch whose energy decides where long speech is cut."""
STEP_S = 0.02
EPSILON_S = 1e-6


def pack_windows(
    segments: Sequence[Interval], window_s: float, audio: npt.NDArray[np.float32] | None = None
) -> list[SpeechWindow]:
    """Contiguous windows of at most `window_s` that cover all speech: sorted, never overlapping, deterministic.

    `segments` are sorted and disjoint, in seconds. A window runs from the start of its first segment to the end of its
    last, pauses included. A segment longer than `window_s` is cut, at the quietest point of the second half of each
    window when `audio` (float32, mono, 16 kHz, from media time 0) is given, else into equal parts.

    Raises ValueError on a window length that is not positive or on segments out of order.
    """
    if window_s <= 0:
        raise ValueError(f"window_s must be positive, got {window_s}")
    windows: list[tuple[float, float]] = []
    previous_end = 0.0
    for segment in segments:
        if segment.start < previous_end - EPSILON_S or segment.end < segment.start:
            raise ValueError(f"segments must be sorted and disjoint; {segment} follows an end at {previous_end}")
        previous_end = segment.end
        for start, end in _cut(segment, window_s, audio):
            if windows and end - windows[-1][0] <= window_s + EPSILON_S:
                windows[-1] = (windows[-1][0], end)
            elif end > start:
                windows.append((start, end))
    return [SpeechWindow(start=start, end=end) for start, end in windows]


def batch_windows(windows: Sequence[SpeechWindow], batch_size: int) -> list[list[SpeechWindow]]:
    """Runs of up to `batch_size` windows in order: what one task decodes together."""
    return [list(windows[first : first + batch_size]) for first in range(0, len(windows), batch_size)]


def window_audio(audio: npt.NDArray[np.float32], window: SpeechWindow) -> npt.NDArray[np.float32]:
    """The window's samples (float32, mono, 16 kHz), copied: a memory map of a long file stays on disk."""
    return np.array(audio[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)], np.float32)


def _cut(segment: Interval, window_s: float, audio: npt.NDArray[np.float32] | None) -> list[tuple[float, float]]:
    pieces: list[tuple[float, float]] = []
    start = segment.start
    while segment.end - start > window_s + EPSILON_S:
        if audio is None:
            parts = int(np.ceil((segment.end - start) / window_s - EPSILON_S))
            end = start + (segment.end - start) / parts
        else:
            end = _quietest(audio, start + window_s / 2, start + window_s)
        pieces.append((start, end))
        start = end
    return [*pieces, (start, segment.end)]


def _quietest(audio: npt.NDArray[np.float32], earliest_s: float, latest_s: float) -> float:
    """Middle of the QUIET_S with the least energy between two times; the latest of equals."""
    step, span = round(STEP_S * SAMPLE_RATE), round(QUIET_S / STEP_S)
    first = round(earliest_s * SAMPLE_RATE)
    samples = audio[first : round(latest_s * SAMPLE_RATE)]
    steps = samples.size // step
    if steps < span:
        return latest_s
    energy = np.square(samples[: steps * step].reshape(steps, step), dtype=np.float64).sum(axis=1)
    stretches = np.convolve(energy, np.ones(span), "valid")
    quietest = len(stretches) - 1 - int(np.argmin(stretches[::-1]))
    return (first + (quietest + span / 2) * step) / SAMPLE_RATE
