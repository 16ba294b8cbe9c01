"""Supervision of one camera, for ever: a process for each connection, one endless backoff, a watchdog on frames."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

from filelock import FileLock, Timeout
from pydantic import ValidationError

from flows.ingest.uploads import Uploads
from tasks.core.errors import ReelflowError, SetupError
from tasks.core.live.capture import Task
from tasks.core.live.events import Event, Events
from tasks.core.live.gaps import Cause, Gap, Ledger, LedgerState
from tasks.core.live.health import Kind
from tasks.core.live.names import WindowRecord
from tasks.core.live.relay import PASSED_ON
from tasks.core.live.spool import Spool

BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 30.0
"""Before the n-th try in a row; doubled each time, with jitter, without end."""
SETTLED_S = 60.0
"""A connection that has lasted so long was a good one: the next try comes soon again."""
START_S = 30.0
"""For the process to begin, beside the time that opening may take."""
STOP_S = 8.0
"""For the process to end when it is asked to; then it is killed, and what it has is recovered."""
STATE_S = 1.0
ABSENT: Final[frozenset[Kind]] = frozenset({"absent"})
SEEN: Final[frozenset[Kind]] = frozenset(get_args(Kind)) - ABSENT
"""States that the camera's own process tells of."""
ROOT = Path(__file__).resolve().parents[2]

Say = Callable[[str], None]


class Watch:
    """One camera. `run` returns when its source has ended, when it is of no use, or after `stop`."""

    def __init__(self, task: Task, url: Callable[[], str], is_file: bool, stall_s: float, uploads: Uploads, say: Say):
        self.task, self._url, self._is_file, self._stall_s = task, url, is_file, stall_s
        self._uploads, self._say = uploads, say
        self.spool = Spool(Path(task.spool), task.spool_bytes)
        self._stopping = threading.Event()
        self._lock = FileLock(self.spool.folder / "lock")
        self._state_at = 0.0
        self._frame_at: float | None = None
        self._back_at: float | None = None
        """Where the last window began."""
        self._failing = ""
        self.failed: str | None = None
        """Why no further try is made."""
        self.windows = self.frames = self.lost = self.connections = 0
        self.gap_s = 0.0

    def stop(self) -> None:
        """Ends the capture in order: what is open becomes a window."""
        self._stopping.set()

    def run(self) -> None:
        """Captures until it is over.  Raises SetupError where another process has this camera."""
        try:
            with self._lock.acquire(timeout=0):
                self._begin()
                self._supervise()
                self._account()
                self._save(force=True)
        except Timeout:
            raise SetupError(
                f"Camera {self.task.camera} is captured by another process on this host; end that one first."
            ) from None

    def tick(self) -> None:
        """To be called about once a second: rows of what lasts, state, rows to the store."""
        if not self.task.keep_time and not self._stopping.is_set():
            now = time.time()
            self._rows(self._ledger.open_gap(now))
            since = self._ledger.absent_since(now)
            absent: dict[Kind, float] = {"absent": since} if since is not None else {}
            self._tell(self._events.now(absent, self._back_at or now, ABSENT))
        self._note_dropped()
        self._save()

    def _begin(self) -> None:
        self.spool.recover()
        state = self._read_state()
        state = LedgerState() if self.task.keep_time else state
        self._ledger = Ledger(self.task.camera, state, time.time())
        self._events = Events(self.task.camera, state.events)
        for record in self.spool.waiting():
            self._took(record)
        self._save(force=True)

    def _supervise(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            done = self._connection()
            if done:
                return
            tries = 1 if time.monotonic() - began > SETTLED_S else tries + 1
            pause = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(10, tries - 1)) * (0.5 + random.random() / 2)  # noqa: S311
            until = time.monotonic() + pause
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                self.tick()
                self._stopping.wait(min(left, 1.0))
        self._recover_only()

    def _recover_only(self) -> None:
        """A process that had to be killed at the end has left what it received."""
        if self.spool.journal.exists():
            process = self._start("")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=START_S)
            _kill(process)
            process.wait()

    def _connection(self) -> bool:
        """One process from its start to its end; is the capture over?"""
        began = time.time()
        try:
            url = self._url()
        except ReelflowError as error:
            self._failure(error.message)
            self._ledger.mark(began, "stream_absent")
            return False
        process = self._start(url)
        messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, messages), name=f"read-{self.task.camera}", daemon=True).start()
        self.connections += 1
        self._frame_at = None
        alive_until = time.monotonic() + START_S + self.task.open_s + self.task.read_s
        killed: Cause | None = None
        failed: dict[str, Any] | None = None
        end: dict[str, Any] | None = None
        asked_at: float | None = None
        while True:
            try:
                message = messages.get(timeout=0.25)
            except queue.Empty:
                message = {}
            if message is None:
                break
            kind = message.get("kind")
            if kind in ("opened", "first", "beat"):
                alive_until = time.monotonic() + (
                    self._stall_s if kind != "opened" else self.task.read_s + self._stall_s
                )
            if kind in ("first", "beat"):
                self._frame_at = float(message["at"])
                self._failing = ""
            if kind == "failed":
                failed = message
            elif kind == "end":
                end = message
            elif kind:
                self._heard(kind, message)
            if self._stopping.is_set() and asked_at is None:
                asked_at = time.monotonic()
                with contextlib.suppress(OSError):
                    process.stdin.write("stop\n")  # type: ignore[union-attr]
                    process.stdin.flush()  # type: ignore[union-attr]
            if time.monotonic() > alive_until and killed is None:
                killed = "stalled"
                self._say(f"{self.task.camera}: no frame for {self._stall_s:.0f} s; it is connected anew.")
                _kill(process)
            if asked_at is not None and time.monotonic() - asked_at > STOP_S:
                _kill(process)
            self.tick()
        code = process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        self._account()
        if self._stopping.is_set():
            return not self.spool.journal.exists()
        return self._ended(began, code, end, failed, killed)

    def _ended(
        self, began: float, code: int, end: dict[str, Any] | None, failed: dict[str, Any] | None, killed: Cause | None
    ) -> bool:
        status = end and int(end["status"])
        at = self._frame_at or began
        if killed:
            self._ledger.mark(at, killed)
        elif failed is not None:
            cause: Cause = "stalled" if failed.get("silent") and self._frame_at else "stream_absent"
            if not (failed.get("silent") and self._ledger.cause == "stalled"):
                self._ledger.mark(at, cause)
            self._failure(str(failed["text"]))
            if status == 2:
                self.failed = str(failed["text"])
                return True
        elif status == 0:
            if (end and end["finite"]) or self.task.duration_s is not None:
                return True
            self._ledger.mark(at, "stream_absent")
            self._failure("the stream has ended")
        else:
            self._ledger.mark(time.time(), "process_down")
            self._failure(f"its process ended ({_how(code)})")
        return False

    def _start(self, url: str) -> subprocess.Popen[str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.core.live.camera"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        task = self.task.model_copy(update={"sequence": self._ledger.sequence, "end": self._ledger.end})
        order = {"task": task.model_dump(mode="json"), "url": url}
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return process

    def _heard(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "window":
            self._took(WindowRecord.model_validate(message["record"]))
        elif kind == "lost":
            record = WindowRecord.model_validate(message["record"])
            self._rows(self._ledger.window(record))
            self._lost(record, message["cause"])
        elif kind == "mark":
            self._ledger.mark(float(message["at"]), message["cause"])
        elif kind == "step":
            self._ledger.mark(float(message["at"]), "clock_step")
            self._say(
                f"{self.task.camera}: this host's clock was set by {message['seconds']:+.1f} s; a new run begins."
            )
        elif kind == "jump":
            self._ledger.mark((self._ledger.end or time.time()), "stalled")
        elif kind == "health" and not self.task.keep_time:
            self._tell(self._events.now(message["states"], float(message["at"]), SEEN))
        elif kind == "notice":
            self._say(f"{self.task.camera}: {message['text']}")

    def _took(self, record: WindowRecord) -> None:
        if self.task.keep_time or record.sequence > self._ledger.sequence:
            if not self.task.keep_time:
                self._rows(self._ledger.window(record))
            self._back_at = record.begins
            self.windows += 1
            self.frames += record.frames
            self._save(force=True)
        self._uploads.submit(record, self.spool)

    def _account(self) -> None:
        """Windows that its process left without a word."""
        if not self.task.keep_time:
            for record in self.spool.waiting():
                if record.sequence > self._ledger.sequence:
                    self._took(record)
        self._note_dropped()

    def _note_dropped(self) -> None:
        for record in self.spool.dropped():
            self._lost(record, "store_refused" if self._uploads.refused else "spool_overflow")
            self.spool.drop_noted(record)

    def _lost(self, record: WindowRecord, cause: Cause) -> None:
        self.lost += 1
        self._rows([self._ledger.lost(record, cause)])

    def _rows(self, gaps: list[Gap]) -> None:
        for gap in gaps:
            self.gap_s += gap.seconds or 0.0
            with contextlib.suppress(OSError):
                self.spool.keep_row(gap.path, gap.model_dump(mode="json"))

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            over = f", over at {event.end}" if event.end else ""
            self._say(f"{self.task.camera}: {event.kind.replace('_', ' ')} since {event.start}{over}.")
            with contextlib.suppress(OSError):
                self.spool.keep_row(event.path, event.model_dump(mode="json"))

    def _failure(self, text: str) -> None:
        """Says why, once for each reason in a row."""
        if text != self._failing:
            self._failing = text
            self._say(f"{self.task.camera}: {text}; it is tried again for ever." if not self._is_file else text)

    def _read_state(self) -> LedgerState:
        try:
            return LedgerState.model_validate_json((self.spool.folder / "state.json").read_bytes())
        except (OSError, ValidationError):
            return LedgerState()

    def _save(self, *, force: bool = False) -> None:
        if self.task.keep_time or not (force or time.monotonic() - self._state_at >= STATE_S):
            return
        self._state_at = time.monotonic()
        part = self.spool.folder / "state.part"
        with contextlib.suppress(OSError):
            state = self._ledger.state(time.time()).model_copy(update={"events": self._events.open})
            part.write_text(state.model_dump_json())
            part.replace(self.spool.folder / "state.json")


def _read(process: subprocess.Popen[str], messages: queue.Queue[dict[str, Any] | None]) -> None:
    for line in process.stdout or ():
        with contextlib.suppress(ValueError):
            messages.put(json.loads(line))
    messages.put(None)


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends it and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
