"""Windows of audio for the speech model: neighbouring speech packed together, because every input costs 30 s.

Whisper pads whatever it is given to 30 s, so one short segment per input wastes most of the encoder. Windows begin and
end in pauses, never within a word. Where speech goes on for longer than a window without any pause, two windows share
a stretch, and what was heard in it twice is joined on its words (publish/assemble.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.core.schema import Interval, Pause, SpeechWindow

SAMPLE_RATE = 16_000
MARGIN_S = 0.5
"""Sound kept before and after the speech where the pause has so much: words at a hard edge are heard wrong."""
SHARED_S = 4.0
"""What windows share where there is no pause: several words, so that some are heard alike in both."""
LONGEST_GAIN_S = 2.0
"""A pause of this length is as good a place to cut as any longer one."""
EPSILON_S = 1e-6


class _Piece(NamedTuple):
    """Speech without a usable pause."""

    start: float
    end: float
    gap_s: float
    """Length of the pause before it."""


def pack_windows(
    speech: Sequence[Interval], pauses: Sequence[Pause], window_s: float, duration_s: float
) -> list[SpeechWindow]:
    """As few windows of at most `window_s` as cover all speech, cut at the longest pauses: sorted, deterministic.

    `speech` is sorted and disjoint, in seconds of a track of `duration_s`; `pauses` say where it can be cut. Windows do
    not overlap, except where speech without a pause is longer than `window_s`.
    Raises ValueError on a window length of less than 5 s or on speech out of order.
    """
    if window_s < 5:
        raise ValueError(f"window_s must be at least 5, got {window_s}")
    windows: list[SpeechWindow] = []
    together: list[_Piece] = []
    for piece in _pieces(speech, pauses):
        if piece.end - piece.start <= window_s + EPSILON_S:
            together.append(piece)
            continue
        windows += _fewest(together, window_s)
        windows += _sharing(piece, window_s)
        together = []
    windows += _fewest(together, window_s)
    return _with_margins(windows, window_s, duration_s)


def batch_windows(windows: Sequence[SpeechWindow], batch_size: int) -> list[list[SpeechWindow]]:
    """Runs of up to `batch_size` windows in order: what one task decodes together."""
    return [list(windows[first : first + batch_size]) for first in range(0, len(windows), batch_size)]


def window_audio(audio: npt.NDArray[np.float32], window: SpeechWindow) -> npt.NDArray[np.float32]:
    """The window's samples (float32, mono, 16 kHz), copied: a memory map of a long file stays on disk."""
    return np.array(audio[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)], np.float32)


def _pieces(speech: Sequence[Interval], pauses: Sequence[Pause]) -> Iterator[_Piece]:
    """Speech cut at every pause."""
    waiting = iter(sorted(pauses, key=lambda pause: pause.time))
    pause = next(waiting, None)
    previous_end = 0.0
    for segment in speech:
        if segment.start < previous_end - EPSILON_S or segment.end < segment.start:
            raise ValueError(f"speech must be sorted and disjoint; {segment} follows an end at {previous_end}")
        start, gap_s = segment.start, segment.start - previous_end + LONGEST_GAIN_S / 4
        while pause is not None and pause.time < segment.end:
            if pause.time > start:
                yield _Piece(start, pause.time, gap_s)
                start, gap_s = pause.time, pause.duration_s
            pause = next(waiting, None)
        if segment.end > start:
            yield _Piece(start, segment.end, gap_s)
        previous_end = segment.end


def _fewest(pieces: Sequence[_Piece], window_s: float) -> list[SpeechWindow]:
    """The fewest windows over pieces in order; of equally many those whose cuts lie in the longest pauses."""
    best: list[tuple[int, float, int]] = [(0, 0.0, 0)]
    for last, piece in enumerate(pieces):
        choices = []
        for first in range(last, -1, -1):
            if piece.end - pieces[first].start > window_s + EPSILON_S:
                break
            count, loss, _ = best[first]
            choices.append((count + 1, loss - min(pieces[first].gap_s, LONGEST_GAIN_S), first))
        best.append(min(choices))
    windows = []
    after = len(pieces)
    while after:
        first = best[after][2]
        windows.append(SpeechWindow(start=pieces[first].start, end=pieces[after - 1].end))
        after = first
    return windows[::-1]


def _sharing(piece: _Piece, window_s: float) -> list[SpeechWindow]:
    """Equal windows over speech without a pause; each shares SHARED_S with the next."""
    count = ceil((piece.end - piece.start - SHARED_S) / (window_s - SHARED_S) - EPSILON_S)
    step = (piece.end - piece.start - SHARED_S) / count
    return [
        SpeechWindow(
            start=piece.start + number * step,
            end=piece.start + (number + 1) * step + SHARED_S,
            shared_start_s=SHARED_S if number else 0.0,
            shared_end_s=SHARED_S if number + 1 < count else 0.0,
        )
        for number in range(count)
    ]


def _with_margins(windows: Sequence[SpeechWindow], window_s: float, duration_s: float) -> list[SpeechWindow]:
    """Windows grown into the pauses around them: at most MARGIN_S, half of a pause, and what `window_s` leaves."""
    spaces = [
        windows[0].start if windows else 0.0,
        *((after.start - before.end) / 2 for before, after in pairwise(windows)),
        max(0.0, duration_s - windows[-1].end) if windows else 0.0,
    ]
    grown = []
    for number, window in enumerate(windows):
        before, after = (max(0.0, min(space, MARGIN_S)) for space in spaces[number : number + 2])
        room = max(0.0, window_s - (window.end - window.start))
        share = min(1.0, room / (before + after)) if before + after > 0 else 0.0
        bounds = {"start": window.start - before * share, "end": window.end + after * share}
        grown.append(window.model_copy(update=bounds))
    return grown
