"""Ends connections at a given moment, whatever whoever reads from them is waiting for."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType


class Watchdog:
    """Shuts the connections that it watches down when time is up: a read that waits for them returns at once.

    Timeouts of sockets begin anew with each byte; this one does not. `fired` says afterwards that it was so: what was
    shut down may look like the end of what was sent.
    """

    def __init__(self, until: float) -> None:
        """`until` is a time.monotonic()."""
        self._until = until
        self._watched: list[socket.socket] = []
        self._changed = threading.Condition()
        self._ended = False
        self.fired = False
        self._thread = threading.Thread(target=self._run, name="reelflow-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        for watched in self._watched:
            watched.close()

    def watch(self, connected: socket.socket) -> None:
        """Beginning with the TCP connection: a descriptor of our own outlives its turning into a TLS socket."""
        with self._changed:
            self._watched.append(connected.dup())
            if self.fired:
                self._shut_down()

    def wait_until(self, moment: float) -> None:
        """Moves the time.monotonic() at which time is up."""
        with self._changed:
            self._until = moment
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._ended:
                left = self._until - time.monotonic()
                if left <= 0:
                    self.fired = True
                    self._shut_down()
                    return
                self._changed.wait(left)

    def _shut_down(self) -> None:
        for watched in self._watched:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)
