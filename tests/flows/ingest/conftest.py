"""A bucket, a spool of the test's own, and an ingest that runs beside the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.ingest.cameras import options
from flows.ingest.run import IngestReport, ingest
from tasks.core.live.names import WindowRecord
from tasks.store import Store, open_store
from tests.tasks.conftest import bucket, clean_aws, proxy, raw, s3_server

__all__ = ["bucket", "clean_aws", "proxy", "raw", "s3_server"]


class Ingest:
    """One ingest in a thread."""

    def __init__(self, root: str, folder: Path, url: str, **camera: Any) -> None:
        self.sent: list[WindowRecord] = []
        self.said: list[str] = []
        self.spool = folder / "spool"
        self._stopping = threading.Event()
        self._options = options("test", to=root, spool=self.spool, cameras={"gate": {"url": url} | camera})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.report: IngestReport | None = None
        self.error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            self.report = ingest(self._options, self.sent.append, self.said.append, self._stopping, trusted=True)
        except BaseException as error:
            self.error = error

    def until(self, done: Callable[[], Any], what: str, timeout_s: float = 120.0) -> None:
        """Waits for it; says what else came if it does not."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"{what}; sent {self.sent}, said {self.said}"
            assert self.error is None, self.error
            time.sleep(0.05)

    def stop(self) -> IngestReport:
        self._stopping.set()
        self._thread.join(60)
        assert self.error is None, self.error
        assert self.report is not None
        return self.report


@pytest.fixture
def recordings(bucket: str) -> Store:
    return open_store(f"s3://{bucket}/recordings")


@pytest.fixture
def start(recordings: Store, tmp_path: Path) -> Iterator[Callable[..., Ingest]]:
    """`start(url, window=1)`: an ingest of camera `gate` into the bucket."""
    begun: list[Ingest] = []

    def begin(url: str, **camera: Any) -> Ingest:
        begun.append(Ingest(recordings.root, tmp_path, url, **camera))
        return begun[-1]

    yield begin
    for one in begun:
        one.stop()
