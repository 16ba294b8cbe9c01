"""Takes messages from a queue, and deletes each once the runs of all its objects exist."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final

from flows.watch.desk import Desk
from tasks.core.errors import ReelflowError
from tasks.core.events.notification import Notification, parse
from tasks.core.events.sqs import BATCH, LONG_POLL_S, MOST_PAUSE_S, Message, SqsQueue
from tasks.core.source_names import hide_secrets
from tasks.records.dead_letters import bury
from tasks.records.lookup import unexpected

MOST_WAITING: Final = 1000
"""Objects that wait here; the queue keeps the others."""

PAUSE_S: Final = (1.0, 60.0)
"""First and longest pause when the queue does not answer."""


class Inbox:
    """What every source of notifications does with one: its objects to the desk, its faults to the dead letters."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def accept(self, body: str | bytes, received: datetime) -> Notification:
        """Takes a message's objects; afterwards their runs exist.

        Faults are left to the caller. Raises what take_event raises.
        """
        found = parse(body)
        for event in found.events:
            self.desk.take_event(event, received)
        self.desk.count("test", found.tests)
        self.desk.count("other event", found.other)
        return found

    def bury(self, body: str, reason: str, origin: str) -> None:
        """Keeps a dead letter in the store."""
        bury(self.desk.root, body, reason, origin)
        self.note(reason)

    def note(self, reason: str) -> None:
        """Counts and tells of a dead letter."""
        self.desk.count("dead letter")
        self.desk.say.warning("A dead letter: %s", reason)


class Receiver:
    """One thread that polls, and some that take what it brings."""

    def __init__(self, queue: SqsQueue, inbox: Inbox, context: Context, say: logging.Logger | Any) -> None:
        self._queue = queue
        self._inbox = inbox
        self._context = context
        self._say = say
        self._stop = threading.Event()
        self._returns_at = 0.0
        self.wait_s: float = LONG_POLL_S
        self.answered_at = time.monotonic()
        """Of time.monotonic: when the queue last answered."""
        self.empty = threading.Event()
        """The last poll brought nothing, and nothing that was put back is still to come."""
        self._thread = threading.Thread(
            target=context.copy().run, args=(self._run,), name="reelflow-queue", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks for no more messages; what was received is dealt with first, a long poll is not awaited."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        pause_s = PAUSE_S[0]
        with ThreadPoolExecutor(BATCH, thread_name_prefix="reelflow-intake") as pool:
            while not self._stop.is_set():
                if self._inbox.desk.waiting >= MOST_WAITING:
                    self.answered_at = time.monotonic()
                    self._stop.wait(0.5)
                    continue
                try:
                    messages = self._queue.receive(self.wait_s)
                    self.answered_at, pause_s = time.monotonic(), PAUSE_S[0]
                    if messages:
                        self.empty.clear()
                        self._deal_with(messages, pool)
                    elif time.monotonic() > self._returns_at:
                        self.empty.set()
                except ReelflowError as error:
                    self._say.error("%s Next try in %.0f s.", error.message, pause_s)
                    self._stop.wait(pause_s)
                    pause_s = min(PAUSE_S[1], 2 * pause_s)

    def _deal_with(self, messages: list[Message], pool: ThreadPoolExecutor) -> None:
        received = datetime.now(UTC)
        tasks = [pool.submit(self._context.copy().run, self._accept, message, received) for message in messages]
        self._queue.delete([message for message, task in zip(messages, tasks, strict=True) if task.result()])

    def _accept(self, message: Message, received: datetime) -> bool:
        """Is the message done with?"""
        try:
            for reason, body in self._inbox.accept(message.body, received).faults:
                if self._queue.bury(body, reason, message):
                    self._inbox.note(reason)
                else:
                    self._inbox.bury(body, reason, self._queue.shown)
            return True
        except Exception as error:
            said = error.message if isinstance(error, ReelflowError) else unexpected(error).message
            self._say.warning("A message is left in the queue for later: %s", hide_secrets(said))
            self._inbox.desk.count("put back")
            self._put_back(message)
            return False

    def _put_back(self, message: Message) -> None:
        try:
            self._returns_at = max(self._returns_at, time.monotonic() + self._queue.put_back(message))
        except ReelflowError as error:
            self._returns_at = time.monotonic() + MOST_PAUSE_S
            self._say.warning("%s", error.message)
