"""Is the picture worth having? A look at one key frame a second: dark, frozen, covered or moved, blurred, too slow.

Each state must be seen several times before it counts and before it is over, so that a passing lorry is no alarm. What
is usual is learned from the camera itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import av
import numpy as np
import numpy.typing as npt

from tasks.core.live.streams import Sample, Stream

Kind = Literal["absent", "frozen", "dark", "covered_or_moved", "blurred", "rate_fallen", "clock_off"]

LOOK_S = 1.0
"""Media time between two looks, at least."""
WIDTH, HEIGHT = 160, 90
"""Grey pixels of a picture that is looked at."""
CONFIRM = 3
"""Looks in a row that a state takes to begin or to end."""
LEARN = 10
"""Looks after which what is usual is known."""
DARK = 20.0
"""Mean brightness below this, of 255, is dark: nothing can be told."""
FROZEN_LOOKS = 10
"""So many pictures in a row without the least change: a sensor's noise alone changes each."""
UNLIKE = 0.3
"""Correlation of edges with the usual ones below which something stands before the camera, or it was turned."""
BLURRED = 0.25
"""Share of the usual sharpness."""
SLOW = 0.5
"""Share of the usual frame rate."""
MEMORY = 0.02
"""How fast what is usual follows what is seen, for each look."""

Picture = npt.NDArray[np.float32]


class Health:
    """Looks at a camera's key frames and says which states hold."""

    def __init__(self) -> None:
        self._counts: dict[Kind, int] = {}
        self.since: dict[Kind, float] = {}
        """States that hold, and since when (Unix time)."""
        self._looked: float | None = None
        self._last: Picture | None = None
        self._edges: Picture | None = None
        self._sharp = 0.0
        self._fps = 0.0
        self._still = self._looks = 0

    def wants(self, sample: Sample, media_s: float) -> bool:
        """Is this the frame to look at next?"""
        return sample.key and (self._looked is None or not 0 <= media_s - self._looked < LOOK_S)

    def look(self, grey: Picture, media_s: float, at: float) -> None:
        """One picture, (90, 160), 0 to 255, seen at Unix time `at`."""
        self._looked = media_s
        self._looks += 1
        brightness = float(grey.mean())
        dark = brightness < DARK
        self._still = self._still + 1 if self._last is not None and np.array_equal(self._last, grey) else 0
        self._last = grey
        edges = _edges(grey)
        sharp = float(edges.var())
        known = self._looks > LEARN and self._edges is not None
        unlike = known and not dark and _alike(edges, self._edges) < UNLIKE
        blurred = known and not dark and not unlike and sharp < BLURRED * self._sharp
        self._note("dark", dark, at)
        self._note("frozen", self._still >= FROZEN_LOOKS, at)
        self._note("covered_or_moved", unlike, at)
        self._note("blurred", blurred, at)
        if not (dark or blurred):
            # a camera that was turned is as usual after a while
            share = 1 / self._looks if not known else MEMORY
            self._edges = edges if self._edges is None else (1 - share) * self._edges + share * edges
            if not unlike:
                self._sharp = sharp if self._sharp == 0.0 else (1 - share) * self._sharp + share * sharp

    def window(self, fps: float, at: float) -> None:
        """The frame rate of a window that is finished."""
        slow = self._fps > 0 and fps < SLOW * self._fps
        self._note("rate_fallen", slow, at)
        if not slow:
            self._fps = fps if self._fps == 0.0 else 0.9 * self._fps + 0.1 * fps

    def clock(self, off: bool, at: float) -> None:
        """Whether the camera's own clock can be right."""
        self._note("clock_off", off, at)

    def _note(self, kind: Kind, holds: bool, at: float) -> None:
        """Counts up to CONFIRM while a state is seen, and down while it is not."""
        count = self._counts.get(kind, 0)
        count = min(CONFIRM, count + 1) if holds else max(0, count - 1)
        self._counts[kind] = count
        if count == CONFIRM:
            self.since.setdefault(kind, at)
        elif count == 0:
            self.since.pop(kind, None)


def picture_of(stream: Stream) -> Callable[[Sample], Picture | None]:
    """Decodes single key frames of a stream to what `look` takes; None where one cannot be decoded."""
    decoder: Any = av.CodecContext.create(stream.codec, "r")
    decoder.extradata = stream.extradata or None
    decoder.thread_count = 1

    def decode(sample: Sample) -> Picture | None:
        try:
            frames = [*decoder.decode(av.Packet(sample.data)), *decoder.decode(None)]
            decoder.flush_buffers()
            if frames:
                grey = frames[-1].reformat(width=WIDTH, height=HEIGHT, format="gray")
                return np.asarray(grey.to_ndarray(), np.float32)
        except (av.FFmpegError, ValueError):
            pass
        return None

    return decode


def _edges(grey: Picture) -> Picture:
    across, down = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    return np.asarray(np.hypot(across, down), np.float32)


def _alike(one: Picture, other: Picture | None) -> float:
    """Correlation of two pictures, -1 to 1."""
    if other is None:
        return 1.0
    a, b = one - one.mean(), other - other.mean()
    size: Final = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0
