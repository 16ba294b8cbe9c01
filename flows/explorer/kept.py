"""Answers kept for a while, so that a player's hundred range requests do not read the same record a hundred times."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The `most` last used values, each for at most `keep_s` seconds. Safe for threads."""

    def __init__(self, most: int, keep_s: float = math.inf) -> None:
        self._most = most
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key; two threads that miss it at the same time both make it."""
        with self._lock:
            found = self._values.get(key)
            if found and time.monotonic() - found[0] < self._keep_s:
                self._values.move_to_end(key)
                return found[1]
        value = make()
        with self._lock:
            self._values[key] = time.monotonic(), value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value
