"""When requests arrive: pure arithmetic from a count, a rate and a seed, the same every time."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

Pattern = Literal["steady", "burst", "ramp", "poisson", "closed"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
MEANING: dict[Pattern, str] = {
    "steady": "one request every 1/rate seconds",
    "burst": "`concurrency` requests at once, then a pause that makes the mean rate",
    "ramp": "the rate rises linearly from 0 to twice the mean",
    "poisson": "independent users: exponential gaps, drawn from the seed",
    "closed": "`concurrency` users, each sends its next request when its last one has ended",
}


@dataclass(frozen=True)
class Workload:
    """`count` requests. Raises ValueError for a count, rate or concurrency that is not positive."""

    pattern: Pattern
    count: int
    rate: float = 1.0
    """Mean requests per second, over the whole workload; closed loops have none."""
    concurrency: int = 1
    """closed: requests in flight at a time. burst: requests that come at once."""
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("count", "rate", "concurrency"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be more than 0")

    @property
    def label(self) -> str:
        """`closed 8`, `steady 0.5/s`, `burst 1/s by 4`."""
        if self.pattern == "closed":
            return f"closed {self.concurrency}"
        sizes = f" by {self.concurrency}" if self.pattern == "burst" else ""
        return f"{self.pattern} {self.rate:g}/s{sizes}"

    def arrivals(self) -> list[float]:
        """Seconds from the start, ascending, one per request. Raises ValueError for a closed loop: it has none."""
        numbers = range(self.count)
        match self.pattern:
            case "steady":
                return [number / self.rate for number in numbers]
            case "burst":
                return [number // self.concurrency * self.concurrency / self.rate for number in numbers]
            case "ramp":  # rate(t) = 2 * rate * t / T with T = count / rate, so N(t) = rate * t**2 / T
                return [self.count / self.rate * math.sqrt(number / self.count) for number in numbers]
            case "poisson":
                choose = random.Random(self.seed)
                return list(itertools.accumulate(choose.expovariate(self.rate) for _ in numbers))
            case "closed":
                raise ValueError("a closed loop has no arrival times: its users wait for answers")
