"""What one connection to the explorer may hold, and all of them: time to ask and to read, and a number.

uvicorn ends a connection that is silent after an answer; one that never asks, or asks a byte at a time, it keeps.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""From the connection, or from the last answer, until a request is there whole."""
STALL_S = 300.0
"""A player that is paused reads nothing; after this time it has to ask for the rest again."""
MOST_CONNECTIONS = 256


class Connection(H11Protocol):
    """A connection that is cut off when the other side is waited for too long.

    Beyond MOST_CONNECTIONS a new one takes the place of the one that has been waiting longest: first of those that have
    not asked, then of those that do not read.
    """

    _since: float | None = None
    """Time of the loop since which the other side is waited for; None while an answer is made and taken."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        opened = [c for c in self.connections if isinstance(c, Connection) and not c.transport.is_closing()]
        if len(opened) > MOST_CONNECTIONS:
            waiting = [(c._unread > 0, c._since, c) for c in opened if c is not self and c._since is not None]
            given_up = min(waiting, key=lambda found: found[:2])[2] if waiting else self
            given_up.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._serve()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self._is_serving and not self.flow.write_paused:
            self._serve()

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._wait()
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._is_serving:
            self._serve()
        super().resume_writing()

    @property
    def _is_serving(self) -> bool:
        return not self.cycle.response_complete

    @property
    def _unread(self) -> int:
        """Bytes of answers that the other side has not taken."""
        return self.transport.get_write_buffer_size()

    def _wait(self) -> None:
        self._serve()
        self._since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_S, self._look)

    def _serve(self) -> None:
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._since is None:
            return
        left = self._since + (STALL_S if self._unread else HEAD_S) - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(left, self._look)
