"""Cuts a stream of packets into windows at key frames: every packet in exactly one window, in its order.

A window ends at the first key frame at or after its length; where none comes, at its greatest length or size. Sound
goes to the window in whose time it lies, whichever of the two comes first over the wire. Where the stream's clock jumps
or its codec, parameter sets or picture size change, a window ends too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tasks.core.live.recording import Cut
from tasks.core.live.streams import START, Layout, Sample, is_clean, parameter_sets

JUMP_S = 1.0
"""Frames of one clock are not further apart than this, or than JUMP_FRAMES times what is usual."""
JUMP_FRAMES = 5
FIRST_JUMP_S = 10.0
"""The same for the second frame of a run: what is usual is not known yet."""
LEADING_WINDOWS = 2
"""Pictures that are shown before a key frame, and come after it, look behind it and could not be decoded in a window of
their own: such a key frame is cut at only where a window has become so many times its length."""
LOOK_AHEAD = 8
"""Frames, more than codecs reorder in live streams."""
USUAL_S = 0.04
"""Distance of frames where nobody says."""
MOST_WAITING = 500
"""Packets of sound that are kept before the first picture, which may come later over the wire."""
WAIT_S = 1.0
"""How long sound is waited for that belongs to a window whose pictures have ended, in media time."""
TOLERANCE_S = 0.001
"""A key frame this much too early is taken for the one that was meant: containers round."""


@dataclass
class Limits:
    """When windows end."""

    window_s: float = 3.0
    longest_s: float = 30.0
    most_bytes: int = 256 * 2**20
    """A bound for memory, far above what cameras send in the longest window."""


@dataclass
class _Open:
    layout: Layout
    first: int
    aligned: bool
    samples: list[Sample] = field(default_factory=list)
    bytes: int = 0
    end: int | None = None
    """Set when its pictures have ended and only its sound is waited for."""


@dataclass(frozen=True)
class Jump:
    """The stream's clock jumped: what follows belongs to another run."""

    seconds: float
    """Forward, or back where it is negative."""


class Cutter:
    """Feed it samples in order; it gives back windows and jumps, in order."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self.layout = layout
        self.limits = limits
        self.undecodable = 0
        """Frames left out so far: they came before the first key frame of a run."""
        self._window: _Open | None = None
        self._ended: _Open | None = None
        self._latest: int | None = None
        self._interval = 0
        self._held: Sample | None = None
        """A key frame of which the next frame tells whether pictures before it look behind it."""
        self._leading = False
        self._unstamped: list[Sample] = []
        self._sound: deque[Sample] = deque()
        self._heard: int | None = None
        self._begun = 0.0
        self._base = layout.streams[0].time_base

    @property
    def open_samples(self) -> list[Sample]:
        """What has been fed and not given back: of the open window, and of the one whose sound is waited for."""
        held = [s for window in (self._ended, self._window) if window for s in window.samples]
        return [*held, *([self._held] if self._held else []), *self._unstamped, *self._sound]

    def change(self, layout: Layout) -> None:
        """What comes next is of this layout; takes effect with the next key frame."""
        self.layout = layout

    def feed(self, sample: Sample) -> Iterator[Cut | Jump]:
        """Takes one packet. Stream 0 leads: windows are cut at its key frames."""
        if sample.stream != 0:
            yield from self._hear(sample)
        elif sample.pts is None:
            self._unstamped.append(sample)
        else:
            for earlier in self._stamped(sample):
                yield from self._in_turn(earlier)

    def flush(self) -> Iterator[Cut | Jump]:
        """The stream has ended: what is open is given back."""
        for sample in self._release():
            yield from self._in_turn(sample)
        held, self._held = self._held, None
        if held is not None:
            yield from self._lead(held)
        yield from self._place_sound(float("inf"))
        yield from self._finish_ended()
        window = self._window
        if window is not None and self._latest is not None:
            last = max((s for s in window.samples if s.stream == 0), key=lambda s: s.pts or 0)
            end = self._latest + (self._interval or last.duration or 1)
            yield Cut(window.layout, window.samples, window.first, end, window.aligned)
        self._window = self._latest = None
        self._unstamped.clear()
        self._sound.clear()

    def _stamped(self, sample: Sample) -> list[Sample]:
        """The sample, behind those before it that had no time: libav knows none for what comes first.

        Their distance is what the sender says. Else the first frame of a stream lies before the earliest of the next
        few, because with B frames the second one is shown later than those that follow it.
        """
        if not self._unstamped:
            return [sample]
        self._unstamped.append(sample)
        stated = self._unstamped[0].captured is not None and sample.captured is not None
        if self._latest is None and not stated and len(self._unstamped) < LOOK_AHEAD:
            return []
        return self._release()

    def _release(self) -> list[Sample]:
        waiting, self._unstamped = self._unstamped, []
        known = sorted(sample.pts for sample in waiting if sample.pts is not None)
        if not known:
            return []
        steps = [after - before for before, after in pairwise(known) if after > before]
        step = self._interval or min(steps, default=waiting[-1].duration or round(USUAL_S / self._base))
        missing = [sample for sample in waiting if sample.pts is None]
        if self._latest is not None:
            step = max(1, (known[0] - self._latest) // (len(missing) + 1))
        first = known[0]
        following = waiting[len(missing)] if len(missing) < len(waiting) else None
        if following is not None and following.pts is not None and self._latest is None:
            stated = _apart(missing[-1], following)
            if stated is not None:
                first = following.pts - round(stated / self._base) + step
        times = iter(first - step * (len(missing) - number) for number in range(len(missing)))
        return [replace(sample, pts=next(times)) if sample.pts is None else sample for sample in waiting]

    def _in_turn(self, sample: Sample) -> Iterator[Cut | Jump]:
        held, self._held = self._held, None
        if held is not None:
            self._leading = (sample.pts or 0) < (held.pts or 0)
            yield from self._lead(held)
            self._leading = False
        if sample.key and self._window is not None and not is_clean(self.layout.streams[0], sample.data):
            self._held = sample
        else:
            yield from self._lead(sample)

    def _lead(self, sample: Sample) -> Iterator[Cut | Jump]:
        pts = sample.pts or 0
        if self._latest is not None:
            step = pts - self._latest
            usual = JUMP_FRAMES * max(self._interval, sample.duration)
            most = max(JUMP_S / self._base, usual) if self._interval else FIRST_JUMP_S / self._base
            if not -most <= step <= most:
                yield from self.flush()
                yield Jump(float(step * self._base))
            elif step > 0:
                self._interval = min(self._interval, step) if self._interval else step
        window, begin = self._window, pts
        if window is None:
            if not sample.key:
                self.undecodable += 1
                return
            self._begun = float(pts * self._base)
        elif (sample.key and window.layout is not self.layout) or self._is_full(window, sample):
            yield from self._finish_ended()
            if not sample.key and self._latest is not None:
                # the frames that are shown before this one, and come after it, belong to the new window as well
                begin = min(pts, self._latest + (self._interval or 1))
            window.end = begin
            self._ended, self._window = window, None
        if self._window is None:
            self._window = _Open(self.layout, begin, sample.key)
        self._add(self._window, sample)
        self._latest = pts if self._latest is None else max(self._latest, pts)
        yield from self._place_sound(float(self._latest * self._base))

    def _is_full(self, window: _Open, sample: Sample) -> bool:
        elapsed = float(((sample.pts or 0) - window.first) * self._base)
        if elapsed >= self.limits.longest_s - TOLERANCE_S or window.bytes >= self.limits.most_bytes:
            return True
        if not sample.key or elapsed < self.limits.window_s - TOLERANCE_S:
            return False
        return not self._leading or elapsed >= LEADING_WINDOWS * self.limits.window_s - TOLERANCE_S

    def _hear(self, sample: Sample) -> Iterator[Cut]:
        if sample.pts is None:
            if self._heard is None:
                return
            sample = replace(sample, pts=self._heard)
        self._heard = (sample.pts or 0) + sample.duration
        self._sound.append(sample)
        if self._window is None:
            if len(self._sound) > MOST_WAITING:
                self._sound.popleft()
        elif self._latest is not None:
            yield from self._place_sound(float(self._latest * self._base))

    def _place_sound(self, until: float) -> Iterator[Cut]:
        """Puts the sound up to this media time into the windows that it belongs to; later sound waits for pictures."""
        while self._sound and (time := self._sound_s(self._sound[0])) <= until:
            sample = self._sound.popleft()
            ended = self._ended
            if ended is not None and ended.end is not None and time < float(ended.end * self._base):
                self._add(ended, sample)
                continue
            yield from self._finish_ended()
            if self._window is not None and time >= self._begun:
                self._add(self._window, sample)
        ended = self._ended
        if ended is not None and ended.end is not None:
            waited = until - float(ended.end * self._base)
            if len(self.layout.streams) < 2 or self._sound or waited >= WAIT_S:
                yield from self._finish_ended()

    def _add(self, window: _Open, sample: Sample) -> None:
        window.samples.append(sample)
        window.bytes += len(sample.data)

    def _sound_s(self, sample: Sample) -> float:
        return float((sample.pts or 0) * self.layout.streams[sample.stream].time_base)

    def _finish_ended(self) -> Iterator[Cut]:
        ended, self._ended = self._ended, None
        if ended is not None and ended.end is not None:
            yield Cut(ended.layout, ended.samples, ended.first, ended.end, ended.aligned)


def _apart(one: Sample, other: Sample) -> float | None:
    """Seconds from one to the other as their sender says."""
    if one.captured is None or other.captured is None:
        return None
    apart = other.captured - one.captured
    return apart if 0 < apart < FIRST_JUMP_S else None


def new_sets(layout: Layout, sample: Sample) -> bytes | None:
    """Parameter sets that a key frame brings along, where they are not those of the layout."""
    stream = layout.streams[0]
    if not sample.key or not stream.annexb:
        return None
    found = parameter_sets(stream.codec, sample.data)
    if not found or set(found.split(START)) <= set(stream.extradata.split(START)):
        return None
    return found
