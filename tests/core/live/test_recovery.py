"""What was received is in the spool after any kill; what does not fit goes, oldest first, and is known."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tasks.core.live import journal as journals
from tasks.core.live import recording
from tasks.core.live.capture import Capture, Clocks, Task, recover
from tasks.core.live.names import WindowRecord
from tasks.core.live.spool import Spool
from tasks.core.live.streams import Sample
from tests.core.live import samples as take

Messages = list[tuple[str, dict[str, Any]]]
WALL = 1_700_000_000.0


class Time:
    """A wall and a monotonic clock that are moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def clocks(self) -> Clocks:
        return Clocks(lambda: WALL + self.now + self.step, lambda: 50.0 + self.now)


@pytest.fixture
def video(sample: Callable[..., Path]) -> tuple[Any, list[Sample]]:
    """12 s, a key frame each second."""
    return take.read(sample("write", seconds=12.0, gop=25, audio=None))


def task(folder: Path, **values: Any) -> Task:
    return Task.model_validate({"camera": "gate", "spool": str(folder), "spool_bytes": 10**9} | values)


def start(folder: Path, layout: Any, **values: Any) -> tuple[Capture, Time, Messages]:
    messages: Messages = []
    time = Time()
    capture = Capture(task(folder, **values), layout, lambda kind, said: messages.append((kind, said)), time.clocks())
    return capture, time, messages


def play(capture: Capture, time: Time, samples: list[Sample]) -> None:
    """Each packet 20 ms after its time, as from a camera with B frames."""
    base = capture.layout.streams[0].time_base
    for sample in samples:
        time.now = max(time.now, float((sample.pts or 0) * base) + 0.02)
        capture.feed(Sample(sample.stream, sample.pts, sample.duration, sample.key, sample.data))


def kept(folder: Path) -> list[WindowRecord]:
    return Spool(folder, 10**9).waiting()


def test_a_capture_gives_windows_with_all_that_is_known(video: Any, tmp_path: Path) -> None:
    layout, samples = video
    capture, time, messages = start(tmp_path, layout)
    play(capture, time, samples)
    capture.finish()
    records = kept(tmp_path)
    assert [kind for kind, _ in messages if kind != "health"] == ["window"] * 4
    assert [record.sequence for record in records] == [1, 2, 3, 4]
    assert {record.run for record in records} == {"20231114T221320.000Z-00000001"}
    first, last = records[0], records[-1]
    assert first.key == "camera=gate/2023/11/14/20231114T221320.020Z-00000001.mp4"
    assert (first.frames, first.fps, first.width, first.height, first.codec) == (75, 25.0, 192, 108, "h264")
    assert (first.clock, first.keyframe_aligned, first.gap_before_s) == ("wall-min", True, 0.0)
    assert (first.media_duration_s, first.bytes) == (3.0, (tmp_path / "ready" / Path(first.key).name).stat().st_size)
    assert last.ends == pytest.approx(WALL + 12.02, abs=0.02)
    assert not capture.spool.journal.exists()


@pytest.mark.parametrize("killed_after", [10, 76, 140, 299])
def test_a_killed_capture_loses_nothing_that_it_had_received(video: Any, tmp_path: Path, killed_after: int) -> None:
    layout, samples = video
    capture, time, messages = start(tmp_path, layout)
    play(capture, time, samples[:killed_after])
    capture.journal._close()  # a kill: nobody calls finish
    records = []
    for _ in range(2):  # recovering twice, because the first may be killed as well
        copy = (tmp_path / "journal").read_bytes()
        known = recover(task(tmp_path), lambda kind, said: messages.append((kind, said)))
        records = kept(tmp_path)
        assert sum(record.frames for record in records) == killed_after
        assert [record.sequence for record in records] == list(range(1, len(records) + 1))
        assert [record.interrupted for record in records] == [*[False] * (len(records) - 1), True]
        for before, after in pairwise(records):
            assert before.ends == pytest.approx(after.begins, abs=1e-6)
        assert (known.sequence, known.end) == (len(records), records[-1].ends)
        assert not (tmp_path / "journal").exists()
        (tmp_path / "journal").write_bytes(copy)
    shown = [n for record in records for _, n in take.frames(tmp_path / "ready" / Path(record.key).name)]
    assert shown == sorted(set(shown))


def test_a_journal_that_is_cut_anywhere_is_read_as_far_as_it_is_whole(video: Any, tmp_path: Path) -> None:
    layout, samples = video
    capture, time, _ = start(tmp_path, layout)
    play(capture, time, samples[:20])
    capture.journal._close()
    whole = capture.spool.journal.read_bytes()
    counts = []
    for size in range(0, len(whole), 397):
        capture.spool.journal.write_bytes(whole[:size])
        counts.append(sum(isinstance(one, Sample) for one in journals.read(capture.spool.journal)))
    assert (counts[0], counts[-1], counts) == (0, 19, sorted(counts))
    capture.spool.journal.write_bytes(b"\xff" * 1000)
    assert list(journals.read(capture.spool.journal)) == []
    assert recover(task(tmp_path), lambda kind, said: None).sequence == 0


def test_a_wall_clock_that_is_set_begins_a_run_and_loses_no_frame(video: Any, tmp_path: Path) -> None:
    layout, samples = video
    for step in (3600.0, -3600.0):
        folder = tmp_path / str(step)
        capture, time, messages = start(folder, layout)
        play(capture, time, samples[:100])
        time.step = step
        play(capture, time, samples[100:])
        capture.finish()
        records = kept(folder)
        assert sum(record.frames for record in records) == 300
        assert len({record.run for record in records}) == 2
        assert [kind for kind, _ in messages if kind == "step"] == ["step"]
        by_sequence = sorted(records, key=lambda record: record.sequence)
        moved = [r.begins - WALL - n * 3.0 for n, r in enumerate(by_sequence)]
        assert moved == pytest.approx([0.02, 0.02, step, step], abs=0.05)
        assert by_sequence[2].gap_before_s == pytest.approx(max(0.0, step), abs=0.05)


def test_beyond_its_bound_the_spool_lets_the_oldest_go(video: Any, tmp_path: Path) -> None:
    layout, samples = video
    capture, time, _ = start(tmp_path / "a", layout)
    play(capture, time, samples)
    capture.finish()
    size = sum(record.bytes for record in kept(tmp_path / "a"))
    capture, time, _ = start(tmp_path / "b", layout, spool_bytes=round(size * 0.6))
    play(capture, time, samples)
    capture.finish()
    spool = Spool(tmp_path / "b", 10**9)
    assert [record.sequence for record in spool.dropped()] == [1, 2]
    assert [record.sequence for record in spool.waiting()] == [3, 4]
    for record in spool.dropped():
        spool.drop_noted(record)
    assert spool.dropped() == []


def test_a_full_disk_costs_the_oldest_windows_and_not_the_process(
    video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes two windows and no more: a folder of a real file system would need a privilege to be so small."""
    layout, samples = video
    ready = tmp_path / "ready"
    real = recording.write

    def write(cut: Any, path: Path) -> None:
        if len(list(ready.glob("*.mp4"))) >= 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(cut, path)

    monkeypatch.setattr(recording, "write", write)
    capture, time, messages = start(tmp_path, layout)
    play(capture, time, samples)
    capture.finish()
    spool = Spool(tmp_path, 10**9)
    assert [record.sequence for record in spool.waiting()] == [3, 4]
    assert [record.sequence for record in spool.dropped()] == [1, 2]
    assert [kind for kind, _ in messages if kind != "health"] == ["window"] * 4
    assert not list(ready.glob("*.part"))


def test_what_is_being_sent_is_not_dropped_and_comes_back_after_a_kill(video: Any, tmp_path: Path) -> None:
    layout, samples = video
    capture, time, _ = start(tmp_path, layout)
    play(capture, time, samples)
    capture.finish()
    spool = Spool(tmp_path, 1)
    first, second = spool.waiting()[:2]
    media = spool.claim(first)
    assert media is not None
    assert media.exists()
    while spool._drop_oldest():
        pass
    assert media.exists()
    assert spool.claim(second) is None
    again = Spool(tmp_path, 1)
    again.recover()
    assert [record.sequence for record in again.waiting()] == [1]
