"""Ingest from start to end: every camera watched, windows sent, old ones removed, until all sources have ended."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel

from flows.ingest.cameras import CameraOptions, IngestOptions, resolve
from flows.ingest.retention import EVERY_S, keep_house
from flows.ingest.uploads import Uploads
from flows.ingest.watch import Say, Watch
from tasks.core.errors import ReelflowError, SourceNotFound
from tasks.core.fetch import local_path
from tasks.core.live.address import CAMERA_SCHEMES, Address
from tasks.core.live.capture import Task
from tasks.core.live.names import WindowRecord
from tasks.core.live.recorded import recorded
from tasks.settings import settings
from tasks.store import Store, open_store

LEAVE_S = 10.0
"""How long an interrupted ingest goes on sending what waits; the rest stays in the spool."""


class IngestReport(BaseModel):
    """What came of an ingest."""

    windows: int = 0
    frames: int = 0
    sent: int = 0
    lost: int = 0
    waiting: int = 0
    """Windows that are in the spool still."""
    gap_s: float = 0.0
    connections: int = 0
    failed: dict[str, str] = {}
    """Cameras that are given up, and why."""

    def sentence(self) -> str:
        """The report for a person."""
        text = f"{self.windows} windows, {self.frames} frames; {self.sent} windows sent, {self.lost} lost"
        if self.waiting:
            text += f", {self.waiting} wait in the spool: the same command sends them"
        return f"{text}; {self.gap_s:.1f} s without pictures. " + " ".join(
            f"{camera}: {reason}." for camera, reason in self.failed.items()
        )


def ingest(
    options: IngestOptions,
    sent: Callable[[WindowRecord], None] = lambda record: None,
    say: Say = lambda text: None,
    stopping: threading.Event | None = None,
    *,
    trusted: bool = False,
) -> IngestReport:
    """Captures every camera until its source ends, its `duration` is over, or `stopping` is set.

    `sent` is called with each window that the store has. `trusted`: whoever gave the addresses may reach private hosts
    by the protocols of cameras anyway.
    """
    stopping = stopping or threading.Event()
    store = open_store(options.to)
    store.exists()
    uploads = Uploads(store, options.uploads, sent, say)
    watches = [_watch(name, camera, options, uploads, say, trusted) for name, camera in options.cameras.items()]
    try:
        with ThreadPoolExecutor(len(watches), "camera") as pool:
            running = {watch: pool.submit(_run, watch) for watch in watches}
            try:
                _attend(running, uploads, stopping, _Housekeeping(store, options, say))
            finally:  # whatever ends this: the cameras' threads would go on for ever
                for watch in watches:
                    watch.stop()
        for future in running.values():
            future.result()
        uploads.drain(LEAVE_S if stopping.is_set() else None)
        _last_rows(watches, uploads, LEAVE_S if stopping.is_set() else None)
    finally:
        uploads.end()
    return IngestReport(
        windows=sum(watch.windows for watch in watches),
        frames=sum(watch.frames for watch in watches),
        sent=uploads.count,
        lost=sum(watch.lost for watch in watches),
        waiting=sum(len(watch.spool.waiting()) for watch in watches),
        gap_s=round(sum(watch.gap_s for watch in watches), 3),
        connections=sum(watch.connections for watch in watches),
        failed={watch.task.camera: watch.failed for watch in watches if watch.failed},
    )


class _Housekeeping:
    """Removes what is older than its camera's `keep`, at once and then every hour."""

    def __init__(self, store: Store, options: IngestOptions, say: Say) -> None:
        self._store, self._say = store, say
        self._keep = {name: camera.keep_s for name, camera in options.cameras.items() if camera.keep_s is not None}
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        busy = self._thread is not None and self._thread.is_alive()
        if self._keep and not busy and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._thread = threading.Thread(target=self._pass, name="retention", daemon=True)
            self._thread.start()

    def _pass(self) -> None:
        for camera, keep_s in self._keep.items():
            try:
                kept = keep_house(self._store, camera, keep_s, time.time())
            except ReelflowError as error:
                self._say(f"{camera}: old windows could not be removed; it is tried again in an hour. {error.message}")
                continue
            if kept.deleted or kept.unknown:
                stay = f"; {kept.unknown} old objects are none of ours and stay" if kept.unknown else ""
                self._say(f"{camera}: {kept.deleted} windows from before {kept.older_than} removed{stay}.")


def _attend(
    running: dict[Watch, Future[None]], uploads: Uploads, stopping: threading.Event, housekeeping: _Housekeeping
) -> None:
    """Until all cameras have ended: their rows are sent, and an interrupt ends them in order."""
    while not all(future.done() for future in running.values()):
        try:
            stopping.wait(1.0)
        except KeyboardInterrupt:
            stopping.set()
        if stopping.is_set():
            for watch in running:
                watch.stop()
            time.sleep(0.1)
        housekeeping.tick()
        for watch in running:
            uploads.send_rows(watch.spool)


def _run(watch: Watch) -> None:
    try:
        watch.run()
    except ReelflowError as error:
        watch.failed = error.message


def _last_rows(watches: list[Watch], uploads: Uploads, timeout_s: float | None) -> None:
    until = time.monotonic() + timeout_s if timeout_s is not None else None
    for watch in watches:
        while not uploads.send_rows(watch.spool) and (until is None or time.monotonic() < until):
            time.sleep(0.2)


def _watch(
    name: str, camera: CameraOptions, options: IngestOptions, uploads: Uploads, say: Say, trusted: bool
) -> Watch:
    here = settings()
    address = Address(resolve(camera.url))
    root = options.spool or here.cache / "ingest" / hashlib.sha256(options.to.rstrip("/").encode()).hexdigest()[:16]
    private = camera.private_hosts
    if private is None:
        private = here.allow_private_hosts or (trusted and address.scheme in CAMERA_SCHEMES)
    task = Task(
        camera=name,
        spool=str(Path(root) / f"camera={name}"),
        spool_bytes=options.spool_bytes,
        window_s=camera.window,
        longest_s=camera.max_window,
        transport=camera.transport,
        private_hosts=private,
        duration_s=camera.duration,
        pace=camera.pace,
        transcode=camera.transcode,
        bitrate=camera.bitrate,
        refresh_rate=camera.refresh_rate,
    )
    if address.is_file:
        path = Path(local_path(address.url) if "://" in address.url else address.url).expanduser().absolute()
        if not path.is_file():
            raise SourceNotFound(f"{address}: there is no such file")
        if not camera.pace:
            task = task.model_copy(update=recorded(path))
        return Watch(task, lambda: str(path), True, camera.stall, uploads, say)
    return Watch(task, lambda: resolve(camera.url), False, camera.stall, uploads, say)
