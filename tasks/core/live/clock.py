"""When a window began: minimum delay over a monotonic clock, carried from window to window.

A frame cannot arrive before it was captured, so of all frames of a window the least delayed one tells best when its
media time 0 was. The first window of a run starts there; each next one starts where the last ended, and lasts as long
as its media, corrected towards its own estimate by at most 500 ppm. So windows of a run never overlap, network jitter
does not enter their times, and a camera whose clock runs fast or slow is followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MOST_PPM = 500
"""Largest correction of a window's length, in millionths of it."""
STEP_S = 1.0
"""A wall clock that moves by more against the monotonic one was set: a new run begins."""
MOST_TRANSPORT_S = 1.0
"""From capture to arrival. A sender's report that claims more, or a capture after the arrival, comes of a clock that is
off."""
FUTURE_S = 0.25
"""How far in the future a sender's clock may be and still count as right."""

Source = Literal["rtcp-sr", "wall-min", "hls-pdt", "file"]


@dataclass(frozen=True)
class Timing:
    """Where a window lies in time."""

    start: float
    """Unix time, seconds."""
    end: float
    uncertainty_s: float
    """The true start lies within this of `start`, as far as can be told from here."""
    source: Source
    residual_s: float
    """What the window's own frames said of its start, minus `start`: not corrected yet."""
    sender_off_s: float | None = None
    """How far the camera's own clock (RTCP) is ahead of ours, where it cannot be right."""

    @property
    def wall_s(self) -> float:
        return self.end - self.start


class RunClock:
    """Times of one run: an unbroken sequence of frames of one connection, with one media clock.

    Media times are seconds on the stream's own clock; `mono` is time.monotonic(), `wall` time.time().
    """

    def __init__(self, wall: float, mono: float, not_before: float | None = None, sender: Source = "rtcp-sr") -> None:
        self._wall_minus_mono = wall - mono
        self._sent_by = sender
        # a playlist names what was recorded as long ago as it likes
        self._most_transport_s = MOST_TRANSPORT_S if sender == "rtcp-sr" else math.inf
        self._not_before = not_before
        self._end: float | None = None
        self._least: float | None = None
        self._sender: float | None = None
        self._before: tuple[float | None, float | None] = (None, None)
        """The same of the window before: a window whose sound came late ends when the next one's frames are here."""

    def stepped(self, wall: float, mono: float) -> float:
        """Seconds by which the wall clock was set since the run began; 0 for what is only corrected (see STEP_S)."""
        step = (wall - mono) - self._wall_minus_mono
        if abs(step) > STEP_S:
            return step
        self._wall_minus_mono += step
        return 0.0

    def resume(self, end: float) -> None:
        """The run goes on: its last window ended there."""
        self._end = end

    def arrived(self, media: float, mono: float) -> None:
        """A frame of this media time had been captured by then."""
        delay = mono - media
        if self._least is None or delay < self._least:
            self._least = delay

    def captured(self, media: float, wall: float) -> None:
        """The sender says (RTCP sender report) at which wall time a frame of this media time was captured."""
        self._sender = wall - media

    def close(self, first: float, end: float, frame_s: float) -> Timing:
        """The timing of the window from media time `first` to `end`; the next one starts where it ends.

        `frame_s` is the distance of two frames: how late the least delayed frame may itself have come.
        """
        if self._least is None:
            self._least, self._sender = self._before
        own, source, off, doubt = self._estimate(first, frame_s)
        length = end - first
        earliest = own if self._not_before is None else max(own, self._not_before)
        start = earliest if self._end is None else self._end
        most = MOST_PPM * 1e-6 * length
        residual = own - start
        self._end = start + length + min(most, max(-most, residual))
        uncertainty = abs(residual) + doubt
        self._before, self._least, self._sender = (self._least, self._sender), None, None
        return Timing(start, self._end, uncertainty, source, residual, off)

    def _estimate(self, first: float, frame_s: float) -> tuple[float, Source, float | None, float]:
        """Start, by whom, how far off the sender's clock is, and how much of the start is in doubt, in seconds."""
        if self._least is None:
            own = self._end if self._end is not None else self._wall_minus_mono + first
            return own, "wall-min", None, STEP_S
        local = self._wall_minus_mono + self._least + first
        if self._sender is None:
            return local, "wall-min", None, frame_s
        sender = self._sender + first
        if -FUTURE_S <= local - sender <= self._most_transport_s:
            return sender, self._sent_by, None, abs(local - sender) if self._sent_by == "rtcp-sr" else frame_s
        return local, "wall-min", sender - local, frame_s


class FileClock:
    """Times of a file that is read as fast as it goes: its recording time, then media time."""

    def __init__(self, start: float, uncertainty_s: float, source: Source = "file") -> None:
        self._start, self._uncertainty_s, self._source = start, uncertainty_s, source
        self._first: float | None = None

    def stepped(self, wall: float, mono: float) -> float:
        return 0.0

    def arrived(self, media: float, mono: float) -> None:
        if self._first is None or media < self._first:
            self._first = media

    def captured(self, media: float, wall: float) -> None:
        """Nobody sends it."""

    def close(self, first: float, end: float, frame_s: float) -> Timing:
        origin = self._start - (self._first or 0.0)
        return Timing(origin + first, origin + end, self._uncertainty_s, self._source, 0.0)
