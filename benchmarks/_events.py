"""Discrete events: processes as generators, servers with a queue, and cores that the busy ones share.

A loop of its own and not SimPy: what decides this model is the machine whose cores are shared, which SimPy has no
resource for, and searching for a plan simulates many sites: a queue of 40,000 customers at 8 servers takes SimPy 4 2.4
times as long.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import NamedTuple

Slowdown = Mapping[str, Mapping[str, float]]
"""`slowdown[a][b]`: how many times longer work of sort a takes when all other cores do work of sort b."""


class Signal:
    """Something that happens once; processes wait for it by yielding it."""

    __slots__ = ("done", "waiting")

    def __init__(self) -> None:
        self.done = False
        self.waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        self.done = True
        for call in self.waiting:
            call()


Process = Generator[Signal, None, None]


class Loop:
    """Calls what is due, in order of time, then of asking. Times are seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls once, `seconds` from now."""
        self._asked += 1
        heapq.heappush(self._events, (self.now + seconds, self._asked, call))

    def sleep(self, seconds: float) -> Signal:
        """Set `seconds` from now."""
        signal = Signal()
        self.after(seconds, signal.set)
        return signal

    def start(self, process: Process) -> Signal:
        """Runs a process up to its first wait, and on as its signals come; the signal given is set at its end."""
        ended = Signal()

        def resume() -> None:
            for signal in process:
                if not signal.done:
                    signal.waiting.append(resume)
                    return
            ended.set()

        resume()
        return ended

    def run(self) -> None:
        """Returns when nothing is due any more."""
        while self._events:
            self.now, _, call = heapq.heappop(self._events)
            call()


class Totals(NamedTuple):
    """What a station has counted up to a time."""

    busy_s: float
    """Server-seconds held."""
    queued_s: float
    """The length of the queue, summed over time; by Little's law all waiting."""
    served: Counter[str]
    """Turns given, by label."""
    waited_s: Mapping[str, float]
    """Waiting of those that got their turn, by label."""


class Station:
    """Equal servers with one queue, lowest rank first, then in order of arrival."""

    def __init__(self, loop: Loop, servers: int) -> None:
        if servers < 1:
            raise ValueError("a station needs a server")
        self.servers = servers
        self._loop = loop
        self._busy = 0
        self._asked = 0
        self._queue: list[tuple[float, int, float, str, Signal]] = []
        self._since = 0.0
        self._busy_s = self._queued_s = 0.0
        self._served: Counter[str] = Counter()
        self._waited_s: defaultdict[str, float] = defaultdict(float)

    def take(self, label: str, rank: float = 0.0) -> Signal:
        """Set when a server is held for the caller, who calls `leave` at the end."""
        self._tally()
        turn = Signal()
        if self._busy < self.servers:
            self._busy += 1
            self._give(turn, label, 0.0)
        else:
            self._asked += 1
            heapq.heappush(self._queue, (rank, self._asked, self._loop.now, label, turn))
        return turn

    def leave(self) -> None:
        """Hands the server on."""
        self._tally()
        if not self._queue:
            self._busy -= 1
            return
        _, _, asked, label, turn = heapq.heappop(self._queue)
        self._give(turn, label, self._loop.now - asked)

    def totals(self) -> Totals:
        """The counts up to now."""
        self._tally()
        return Totals(self._busy_s, self._queued_s, self._served.copy(), self._waited_s.copy())

    def _give(self, turn: Signal, label: str, waited_s: float) -> None:
        self._served[label] += 1
        self._waited_s[label] += waited_s
        turn.set()

    def _tally(self) -> None:
        passed = self._loop.now - self._since
        self._since = self._loop.now
        self._busy_s += passed * self._busy
        self._queued_s += passed * len(self._queue)


class Work(NamedTuple):
    """Something for a process to do."""

    seconds: float
    """Wall time where nothing else runs."""
    share: float
    """CPU seconds per second of it: below 1 where it waits, above where it has threads."""
    sort: str


class Machine:
    """Cores that all work on them shares equally, and that slow each other down as was measured.

    Beside each other (caches, memory), and where more wants to run than there are cores (changes of context, threads
    that wait for each other).
    """

    def __init__(
        self, loop: Loop, cores: int, slowdown: Slowdown, crowded: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.cores = cores
        self._loop = loop
        self._slowdown = slowdown
        self._crowded = crowded
        self._active: list[_Active] = []
        self._since = 0.0
        self._version = 0

    def do(self, work: Work) -> Signal:
        """Set when the work is done."""
        active = _Active(work)
        self._pass()
        self._active.append(active)
        self._plan()
        return active.done

    def _pass(self) -> None:
        """Takes the time since the last change off what is left."""
        passed = self._loop.now - self._since
        self._since = self._loop.now
        for active in self._active:
            active.left_s -= passed * active.rate

    def _plan(self) -> None:
        """Gives everything its rate, and looks again when the first of it is done."""
        self._version += 1
        if not self._active:
            return
        for active in self._active:
            active.rate = self._rate(active)
        version = self._version
        first_s = min(active.left_s / active.rate for active in self._active)
        self._loop.after(max(0.0, first_s), lambda: self._look(version))

    def _look(self, version: int) -> None:
        if version != self._version:
            return
        self._pass()
        ended = [active for active in self._active if active.left_s <= 1e-9]
        self._active = [active for active in self._active if active.left_s > 1e-9]
        self._plan()
        for active in ended:
            active.done.set()

    def _rate(self, active: _Active) -> float:
        """Progress per second: CPU time grows by the neighbours' slow-down and by waiting for a core."""
        work = active.work
        others = [other.work for other in self._active if other is not active]
        load = sum(other.share for other in others)
        beside = 1.0
        if load:
            pressed = sum(other.share * (self._slowdown[work.sort][other.sort] - 1) for other in others) / load
            beside += pressed * min(1.0, load / max(1, self.cores - 1))
        crowd = max(1.0, (load + work.share) / self.cores)
        if crowd > 1.0:
            beside *= self._crowded.get(work.sort, 1.0)
        cpu = min(1.0, work.share)
        return 1.0 / (cpu * beside * crowd + 1.0 - cpu)


class _Active:
    __slots__ = ("done", "left_s", "rate", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.left_s = work.seconds
        self.rate = 1.0
        self.done = Signal()
