"""A day of two cameras in Berlin, the one on which the clock is set back: 25 hours, made up, analysed and followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.alerts import run_once
from tasks.core.activity.period import Period
from tasks.core.alerts.rules import read_rules
from tasks.core.live.events import Event
from tasks.core.live.gaps import Gap
from tasks.core.live.names import rfc3339
from tasks.core.publish.tables import tables, write_table
from tasks.core.records import json_bytes
from tasks.core.schema import AudioStream
from tasks.core.tracking.records import Window
from tasks.records.lags import keep_lag
from tasks.records.recordings import put_row
from tasks.records.results import read_result, table_path
from tasks.store import Store, open_store
from tests.core.tracking.scenes import Where, parked, walker, windows
from tests.tasks.recordings import analysed, record

DAY = Period(
    begin=datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp(),
    end=datetime(2026, 10, 25, 23, tzinfo=UTC).timestamp(),
    timezone="Europe/Berlin",
)
RULES = "rules:\n  - {name: <b>person & car</b>, class: [person, car], frames: {k: 3, n: 3}}\n"
STEREO = AudioStream(index=1, codec="aac", sample_rate=48000, channels=2, start=0.0, duration_s=3.0)

Scene = dict[str, list[Where]]
WALK: Scene = {"person": [walker(1, 9), walker(14, 22, speed=40)], "car": [parked()]}
PLAN: list[tuple[str, float, Scene]] = [
    ("gate", -13.0, {"person": [walker(2, 5), walker(8, 17)], "car": [parked()]}),  # over the day's beginning
    ("gate", 2.2 * 3600, WALK),  # 02:12 in summer time
    ("gate", 3.2 * 3600, {"person": [walker(3, 11)]}),  # 02:12 again
    ("gate", 14 * 3600.0, WALK),
    ("gate", DAY.seconds - 10, {"person": [walker(4, 20)]}),  # over the day's end
    ("yard", 14 * 3600.0, {"dog": [walker(1, 4), walker(9, 20, speed=20)]}),
]
"""(camera, seconds after the day's beginning, what is seen in the 30 s from then on)"""


@dataclass
class CameraDay:
    recordings: Path
    store: Store
    waiting: Path
    aside: Path


def make_day(root: Path, named: Callable[[str], str] = lambda camera: camera) -> CameraDay:
    """Records, analyses and follows; one window is set aside and one waits. `named` gives cameras other names."""
    store, recordings = open_store(str(root / "store")), root / "recordings"
    counts: dict[str, int] = {}
    made: list[tuple[Path, Window]] = []
    for camera, begin, scene in PLAN:
        camera = named(camera)
        for window in windows(scene, until=30):
            number = counts[camera] = counts.get(camera, 0) + 1
            start = round(DAY.begin + begin + window.start - 1_760_000_000.0, 3)
            digits = f"{len(made):032x}"
            here = window.model_copy(update={"camera": camera, "start": start, "media_id": digits})
            [path] = record(recordings, [here], first=number)
            made.append((path, here))
    for number, (path, window) in enumerate(made):
        if number == len(made) - 1:
            break  # it waits
        said = [(0.5, 2.25, "open the door"), (2.0, 2.75, "now")] if number % 4 == 1 else []
        analysed(
            store,
            path,
            window.media_id or "",
            window.frames,
            said=said,
            scenes=[1.25] if number % 5 == 2 else [],
            audio=STEREO if number % 2 else None,
            cost=0.001 * (number + 1),
            error="no media" if number == 25 else None,
        )
        if number != 25:
            _publish(store, path, window, number)
    run_once(str(recordings), store, read_rules(RULES), lambda _: None, lambda _: None)
    _ledgers(open_store(str(recordings)), named("gate"))
    return CameraDay(recordings, store, waiting=made[-1][0], aside=made[25][0])


def _publish(store: Store, path: Path, window: Window, number: int) -> None:
    """The tables of a result, as `publish` writes them; and how late it was."""
    found = read_result(store, window.media_id or "")
    assert found
    with store.workspace() as work:
        for name, frame in tables(found[0]).items():
            if name not in ("runs", "transcripts", "detections", "scenes"):
                continue
            write_table(frame, work / "part", name)
            store.put(table_path(name, found[0].media_id), work / "part")
    put = datetime.fromtimestamp(window.start + 4, UTC)
    times = {"put": put, "received": put, "started": put, "committed": put + timedelta(seconds=1 + number / 10)}
    keep_lag(store, found[0].media_id, source=str(path), origin="test", attempt=0, level=0, **times)


def _ledgers(recordings: Store, camera: str) -> None:
    """Gaps and health: before the day, into it, in it, and one that lasts."""
    hour = DAY.begin + 3600
    for start, end, cause in (
        (DAY.begin - 9000, DAY.begin - 8000, "stalled"),
        (DAY.begin - 500, DAY.begin - 13, "stream_absent"),
        (DAY.begin + 17, hour + 600, "process_down"),
        (hour + 2 * 3600, hour + 2 * 3600 + 2.5, "stalled"),
        (DAY.end - 1200, None, "stream_absent"),
    ):
        row = Gap(
            camera=camera,
            start=rfc3339(start),
            end=rfc3339(end) if end else None,
            seconds=end - start if end else None,
            cause=cause,
        )
        put_row(recordings, row.path, json_bytes(row))
    ill = Event(camera=camera, kind="dark", start=rfc3339(DAY.begin - 60), end=rfc3339(DAY.begin + 60))
    put_row(recordings, ill.path, json_bytes(ill))
