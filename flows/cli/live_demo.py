"""A camera, from its stream to an alert and a report, on this machine and without a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.activity import ActivityReport, make_report
from flows.alerts import run_once
from flows.cli.demo_camera import demo_camera
from flows.ingest.cameras import options
from flows.ingest.run import IngestReport, ingest
from flows.runtime.run import watch
from tasks.core.activity.period import Period
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.rules import read_rules
from tasks.core.errors import ReelflowError, SetupError
from tasks.core.live.names import WindowRecord
from tasks.core.models import bundled
from tasks.store import Store, open_store
from tasks.visits import tracked_windows

CAMERA: Final = "demo"
WINDOW_S: Final = 3.0
SECONDS: Final = 15.0
"""Of video that are recorded: what happens in the sample until its cut."""
LIMIT_S: Final = 1800.0
RULES: Final = """\
rules:
  - name: a star appears
    camera: demo
    class: star
    frames: {k: 3, n: 5}
"""
OPTIONS: Final = (
    "transcript.model=bundled",
    "detections.weights=bundled",
    "embeddings.model=bundled",
    "clips.enabled=false",
    "frames.fps=5",
    *bundled.SAMPLE_OPTIONS,
)

Say = Callable[[str], None]


def live_demo(folder: Path, say: Say, alarm: Callable[[Alert], None]) -> ActivityReport:
    """Records the bundled sample from a camera, analyses each window as it comes, follows a rule, reports.

    Everything is kept below the folder. Raises SetupError, ReelflowError, Interrupted.
    """
    recordings, store = folder / "recordings", open_store(str(folder / "store"))
    recordings.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(RULES)
    stop, enough, began = threading.Event(), threading.Event(), time.time()
    with demo_camera(bundled.SAMPLE_CLIP) as address, ThreadPoolExecutor(2, "demo") as pool:
        say(f"camera     {address} (the bundled sample)")
        try:
            recorded = pool.submit(_record, address, recordings, folder / "spool", say, enough)
            followed = pool.submit(copy_context().run, _follow, str(recordings), store, recorded, say, alarm, stop)
            watch(
                str(recordings),
                str(folder / "store"),
                OPTIONS,
                lambda report: say(f"{report.status:<11}{Path(report.source).name}"),
                sweep_s=1.0,
                levels=1,
                stop=stop,
            )
        finally:
            stop.set()
            enough.set()
        followed.result()
    today = datetime.fromtimestamp(began, UTC).replace(minute=0, second=0, microsecond=0)
    span = Period(begin=today.timestamp(), end=(today + timedelta(hours=2)).timestamp())
    return make_report(store, span, str(recordings))[0]


def _record(address: str, recordings: Path, spool: Path, say: Say, enough: threading.Event) -> IngestReport:
    camera = {"url": address, "window": WINDOW_S, "transcode": True}
    wanted = options("live-demo", to=str(recordings), spool=spool, cameras={CAMERA: camera})
    sent: list[WindowRecord] = []

    def heard(record: WindowRecord) -> None:
        say(f"recorded   {record.key}")
        sent.append(record)
        if sum(each.media_duration_s for each in sent) >= SECONDS:
            enough.set()

    done = ingest(wanted, heard, say, enough, trusted=True)
    say(f"ingest     {done.sentence()}")
    return done


def _follow(
    recordings: str,
    store: Store,
    recorded: Future[IngestReport],
    say: Say,
    alarm: Callable[[Alert], None],
    stop: threading.Event,
) -> None:
    """Rounds of `alerts run` until every window is followed; then the watcher is ended."""
    rules, limit = read_rules(RULES), time.monotonic() + LIMIT_S
    try:
        while not stop.wait(0.5):
            run_once(recordings, store, rules, alarm, lambda _: None)
            if recorded.done():
                windows = recorded.result().sent
                if not windows:
                    raise SetupError("The demonstration camera gave no picture; `python -m flows doctor` may say why.")
                if sum(1 for _ in tracked_windows(store, CAMERA)) >= windows:
                    return
            if time.monotonic() > limit:
                raise ReelflowError("The demonstration has not come to its end in half an hour; is this host busy?")
    finally:
        stop.set()
