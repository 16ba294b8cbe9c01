"""Real RTSP into a real bucket: every frame once, times that are true, and after each fault a gap with its cause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tasks.core.live.gaps import Gap
from tasks.core.live.names import WindowRecord
from tasks.records.recordings import list_gaps, list_windows
from tasks.store import Store
from tests.core.live.samples import frames
from tests.fault_proxy import FaultProxy
from tests.flows.ingest.cameras import Camera, camera
from tests.flows.ingest.conftest import Ingest
from tests.media import write
from tests.source_tree import ROOT

Start = Callable[..., Ingest]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """short.mp4: 6 s with sound; long.mp4: 30 s without; key frames each second, B frames."""
    made = tmp_path_factory.mktemp("camera")
    write(made / "short.mp4", seconds=6.0, gop=25)
    write(made / "long.mp4", seconds=30.0, gop=25, audio=None)
    return made


REORDER = 3
"""Frames that a stream with B frames has not sent yet, or has sent too early, where it is cut."""


def unbroken(shown: list[int]) -> bool:
    """Are these the frames from the first on, up to where the stream was cut?"""
    return shown[:-REORDER] == list(range(len(shown) - REORDER)) and shown == sorted(set(shown))


def ordinals(store: Store, record: WindowRecord) -> list[int]:
    return [ordinal for _, ordinal in frames(store.local(record.key))]


def at(gap: Gap) -> tuple[float, float]:
    assert gap.end is not None
    return datetime.fromisoformat(gap.start).timestamp(), datetime.fromisoformat(gap.end).timestamp()


def capturing(of: Ingest) -> psutil.Process:
    """The camera's process."""
    return next(p for p in psutil.Process().children() if "tasks.core.live.camera" in p.cmdline())


def test_every_frame_of_a_stream_is_in_the_bucket_once_and_at_its_time(
    folder: Path, recordings: Store, start: Start
) -> None:
    with camera(folder) as source:
        running = start(source.url("short.mp4"), window=2)
        truth = source.began()
        running.until(lambda: sum(record.frames for record in running.sent) >= 150, "6 s of windows")
        report = running.stop()
    stored = [w for w in list_windows(recordings, "gate") if w.run == running.sent[0].run]
    assert [w.frames for w in stored] == [50, 50, 50]
    assert stored == sorted((r for r in running.sent if r.run == stored[0].run), key=lambda r: r.sequence)
    assert [n for w in stored for n in ordinals(recordings, w)] == list(range(150))
    assert stored[0].begins == pytest.approx(truth, abs=0.1)
    assert {w.clock for w in stored} == {"rtcp-sr"}
    assert all(one.ends == pytest.approx(two.begins) for one, two in pairwise(stored))
    assert (stored[0].audio_codec, stored[0].codec, stored[0].fps) == ("aac", "h264", 25.0)
    assert report.lost == 0


def test_after_each_fault_there_is_a_gap_with_its_cause_and_nothing_else_is_lost(
    folder: Path, recordings: Store, start: Start, proxy: FaultProxy
) -> None:
    source = Camera(folder)
    try:
        running = start(source.url("long.mp4"), window=1)
        source.began()
        running.until(lambda: len(running.sent) >= 2, "windows before any fault")
        capturing(running).send_signal(signal.SIGKILL)
        died = time.time()
        again = source.began()
        before = len(running.sent)
        proxy.answer = lambda seen: (403, "AccessDenied", "no") if seen.method == "PUT" else None
        running.until(lambda: len(list(running.spool.glob("*/ready/*.mp4"))) >= 2, "windows that wait")
        proxy.answer = None
        running.until(lambda: len(running.sent) >= before + 3, "windows after the store's fault")
        source.kill()
        gone = time.time()
    finally:
        source.kill()
    with camera(folder, port=source.port) as source:
        back = source.began()
        count = len(running.sent)
        running.until(lambda: len(running.sent) >= count + 3, "windows after the camera's fault")
        report = running.stop()
    assert report.lost == 0
    windows = list(list_windows(recordings, "gate"))
    assert [w.sequence for w in windows] == list(range(1, len(windows) + 1))
    runs = {w.run: [v for v in windows if v.run == w.run] for w in windows}
    assert len(runs) == 3
    for run in runs.values():
        shown = [n for w in run for n in ordinals(recordings, w)]
        assert unbroken(shown)
    assert [w.interrupted for w in windows].count(True) == 1
    waiting, killed, absent = list_gaps(recordings, "gate")
    assert [waiting.cause, killed.cause, absent.cause] == ["stream_absent", "process_down", "stream_absent"]
    assert at(killed)[0] == pytest.approx(died, abs=1.2)
    assert at(killed)[1] == pytest.approx(again, abs=0.1)
    assert at(absent)[0] == pytest.approx(gone, abs=0.5)
    assert at(absent)[1] == pytest.approx(back, abs=0.1)
    joined = [*((w.begins, w.ends) for w in windows), *map(at, (killed, absent))]
    spans = sorted(joined)
    assert all(two[0] == pytest.approx(one[1], abs=0.0015) for one, two in pairwise(spans))


def test_a_camera_that_keeps_the_line_and_sends_nothing_is_connected_anew(
    folder: Path, recordings: Store, start: Start
) -> None:
    with camera(folder, mute_after_s=2.5) as source:
        running = start(source.url("long.mp4"), window=1, stall=2)
        began = source.began()
        source.began()
        running.until(lambda: any(r.begins > began + 4 for r in running.sent), "a window of the second connection")
        running.stop()
    stalled = [gap for gap in list_gaps(recordings, "gate") if gap.cause == "stalled"]
    assert at(stalled[0])[0] == pytest.approx(began + 2.5, abs=0.3)
    first = [w for w in list_windows(recordings, "gate") if w.begins < began + 3]
    shown = [n for w in first for n in ordinals(recordings, w)]
    assert unbroken(shown)
    assert len(shown) >= 50


def test_an_ingest_that_is_killed_sends_what_it_had_when_it_is_started_again(
    folder: Path, recordings: Store, start: Start, tmp_path: Path
) -> None:
    """The supervisor and the camera's process are both gone; the disk has what came."""
    with camera(folder) as source:
        command = [sys.executable, "-m", "flows", "ingest", source.url("long.mp4"), "--camera", "gate", "--window", "1"]
        command += ["--to", recordings.root, "--spool", str(tmp_path / "spool"), "--json"]
        killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})
        source.began()
        assert killed.stdout is not None
        first = WindowRecord.model_validate_json(killed.stdout.readline())
        time.sleep(0.5)
        killed.kill()
        killed.wait()
        died = time.time()
        running = start(source.url("long.mp4"), window=1)
        again = source.began()
        running.until(lambda: any(r.begins > died for r in running.sent), "a window of the second process")
        running.stop()
    windows = list(list_windows(recordings, "gate"))
    before = [w for w in windows if w.run == first.run]
    assert [w.sequence for w in windows] == list(range(1, len(windows) + 1))
    shown = [n for w in before for n in ordinals(recordings, w)]
    assert unbroken(shown)
    assert before[-1].ends == pytest.approx(died, abs=1.0)
    down = [gap for gap in list_gaps(recordings, "gate") if gap.cause == "process_down"]
    assert at(down[-1])[0] == pytest.approx(before[-1].ends, abs=1.2)
    assert at(down[-1])[1] == pytest.approx(again, abs=0.1)
