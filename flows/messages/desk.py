"""Messages in work: each is done once; whom it takes too long for gets a link that shows the page when it is made."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from contextvars import copy_context
from typing import Final, NamedTuple

from flows.messages.answers import Answers, Sent, Task
from tasks.core.errors import ReelflowError
from tasks.core.source_names import hide_secrets
from tasks.records.lookup import unexpected

WORKERS: Final = 3
"""Messages that are worked on at the same time."""
MOST_WAITING: Final = 32
PATIENCE_S: Final = 8.0
"""How long an answer is waited for; Twilio gives up after 15 s."""
REMEMBERED: Final = 1000
"""Messages and pages whose outcome is remembered."""


class Reply(NamedTuple):
    """What a message is answered."""

    text: str
    page: str | None
    state: str
    """done, waiting, failed or busy."""


class MessageDesk:
    """Takes messages; the same one again gets the answer of the first."""

    def __init__(self, answers: Answers, patience_s: float = PATIENCE_S, now: Callable[[], float] = time.time) -> None:
        self.answers = answers
        self._patience_s, self._now = patience_s, now
        self._context = copy_context()  # of whoever made the desk: flow runs find their API by it
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="reelflow-message")
        self._lock = threading.Lock()
        self._messages: OrderedDict[str, tuple[Task, Future[str]]] = OrderedDict()
        self._pages: OrderedDict[str, Future[str]] = OrderedDict()

    def take(self, text: str, message: str, by: str) -> Reply:
        """Does what a message asks, or begins to."""
        with self._lock:
            begun = self._messages.get(message)
            if begun is None:
                if sum(not each.done() for _, each in self._messages.values()) >= MOST_WAITING:
                    return Reply("Too much is asked at once; send it again in a minute.", None, "busy")
                task = self.answers.take(Sent(text, message, by, self._now()))
                running = self._pages.get(task.page) if task.page else None
                if running is None or running.done():
                    running = self._pool.submit(self._context.copy().run, task.work)
                begun = task, running
                self._remember(message, task, running)
        task, running = begun
        try:
            return Reply(running.result(self._patience_s), task.page, "done")
        except Late:
            return Reply("It is being made." if task.page else "It takes longer than usual.", task.page, "waiting")
        except Exception as error:
            with self._lock:
                self._messages.pop(message, None)  # sent again, it is tried again
            return Reply(f"It did not work: {said(error)}", None, "failed")

    def page(self, page: str) -> tuple[str, str | None]:
        """(state, HTML or why there is none): done, waiting, failed or gone."""
        running = self._pages.get(page)
        if running and not running.done():
            return "waiting", None
        error = running.exception() if running else None
        if error:
            return "failed", said(error)
        found = self.answers.store.read(f"reports/{page}/report.html")
        return ("done", found[0].decode()) if found else ("gone", None)

    def stop(self) -> None:
        """Begins nothing more, and waits for what has begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _remember(self, message: str, task: Task, running: Future[str]) -> None:
        self._messages[message] = task, running
        if task.page:
            self._pages[task.page] = running
            self._pages.move_to_end(task.page)
        for known in (self._messages, self._pages):
            while len(known) > REMEMBERED:
                known.popitem(last=False)


def said(error: BaseException) -> str:
    """Why something failed, as it may be told."""
    if isinstance(error, ReelflowError):
        return hide_secrets(error.message)
    logging.getLogger("reelflow").warning("a message failed", exc_info=error)
    return unexpected(error).message if isinstance(error, Exception) else type(error).__name__
