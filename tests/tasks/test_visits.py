"""Tracking in a store: each window once, in order, whoever is killed, beside whom and in what order they come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.tracking.records import TrackedWindow
from tasks.store import Store, open_store
from tasks.store.folder import FolderStore
from tasks.visits import Waiting, cameras_under, late_windows, track_camera, tracked_path, tracked_windows
from tests.core.tracking.scenes import parked, walker, windows
from tests.tasks.recordings import analyse_all, analysed, record

SCENE = {"person": [walker(1, 9), walker(14, 22)], "car": [parked()]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def tracked(store: Store, folder: Path) -> list[TrackedWindow | Waiting]:
    found: list[TrackedWindow | Waiting] = []
    for camera, listed in cameras_under(str(folder), store).items():
        found += track_camera(store, camera, listed)
    return found


def ledger(store: Store) -> dict[str, bytes]:
    """Every record and table, byte for byte."""
    names = [name for folder in ("tracking", "tables") for name in store.list(folder)]
    return {name: (store.read(name) or (b"", ""))[0] for name in names}


def test_live_equals_backfill(tmp_path: Path, store: Store) -> None:
    """Windows that come one by one, each seen by a new process, give what one run over all of them gives."""
    made = windows(SCENE, until=30)
    paths = record(tmp_path / "rec", made)
    for path, window in zip(paths, made, strict=True):
        analyse_all(store, [path], [window])
        for camera, listed in cameras_under(str(tmp_path / "rec"), store).items():
            list(track_camera(store, camera, [each for each in listed if each[1].source <= str(path)]))
    backfill = open_store(str(tmp_path / "backfill"))
    analyse_all(backfill, paths, made)
    assert len([each for each in tracked(backfill, tmp_path / "rec") if isinstance(each, TrackedWindow)]) == 10
    assert ledger(store) == ledger(backfill)
    visits = pd.read_parquet(tmp_path / "store/tables/visits")
    assert sorted(visits["class"]) == ["car", "person", "person"]
    tracks = pd.read_parquet(tmp_path / "store/tables/tracks")
    assert set(tracks["visit"]) == set(visits["visit"])
    assert tracks.groupby("visit").size().to_dict() == visits.set_index("visit")["frames"].to_dict()


class Killed(BaseException):
    pass


def test_a_run_that_is_killed_anywhere_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = windows(SCENE, until=12)
    paths = record(tmp_path / "rec", made)
    count = [0, 0]
    put = FolderStore.write

    def write(self: FolderStore, path: str, data: bytes) -> None:
        count[0] += 1
        if count[0] == count[1]:
            raise Killed
        put(self, path, data)

    def run(name: str, killed_at: int) -> dict[str, bytes]:
        """What a store holds after a run that was killed at this write, and another."""
        store = open_store(str(tmp_path / name))
        analyse_all(store, paths, made)
        count[:] = [0, killed_at]
        with monkeypatch.context() as patch, nullcontext() if not killed_at else pytest.raises(Killed):
            patch.setattr(FolderStore, "write", write)
            tracked(store, tmp_path / "rec")
        tracked(store, tmp_path / "rec")
        return ledger(store)

    calm = run("calm", 0)
    for killed_at in range(1, count[0] + 1, 3):
        assert run(f"killed-{killed_at}", killed_at) == calm, killed_at


def test_two_runs_at_the_same_time_make_one_ledger(tmp_path: Path, store: Store) -> None:
    made = windows(SCENE, until=30)
    analyse_all(store, record(tmp_path / "rec", made), made)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: tracked(store, tmp_path / "rec"), range(2)))
    alone = open_store(str(tmp_path / "alone"))
    analyse_all(alone, record(tmp_path / "rec", made), made)
    tracked(alone, tmp_path / "rec")
    assert ledger(store) == ledger(alone)


def test_a_window_that_is_not_analysed_is_waited_for(tmp_path: Path, store: Store) -> None:
    made = windows(SCENE, until=12)
    paths = record(tmp_path / "rec", made)
    analyse_all(store, [*paths[:1], *paths[2:]], [*made[:1], *made[2:]])
    _, waiting = tracked(store, tmp_path / "rec")
    assert isinstance(waiting, Waiting)
    assert "not analysed" in waiting.why
    analyse_all(store, paths[1:2], made[1:2])
    assert len(tracked(store, tmp_path / "rec")) == 3


def test_a_number_that_is_missing_is_waited_for_a_minute(tmp_path: Path, store: Store) -> None:
    made = windows(SCENE, until=90)
    paths = record(tmp_path / "rec", made)
    paths[1].unlink()
    analyse_all(store, paths[:1] + paths[2:], made[:1] + made[2:])
    listed = cameras_under(str(tmp_path / "rec"), store)["gate"]
    *_, waiting = track_camera(store, "gate", listed[:5])
    assert isinstance(waiting, Waiting)
    assert "window 1" in waiting.why
    assert len(list(track_camera(store, "gate", listed))) == 28
    paths[1].write_text("late")
    analysed(store, paths[1], made[1].media_id or "", made[1].frames)
    assert tracked(store, tmp_path / "rec") == []
    assert late_windows(store, "gate", cameras_under(str(tmp_path / "rec"), store)["gate"]) == [str(paths[1])]


def test_a_window_that_was_set_aside_is_time_that_nobody_looked_at(tmp_path: Path, store: Store) -> None:
    made = windows({"person": [walker(1, 14, speed=0, x=200)]}, until=15)
    paths = record(tmp_path / "rec", made)
    for number, (path, window) in enumerate(zip(paths, made, strict=True)):
        analysed(store, path, window.media_id or "", window.frames, error="no media" if number == 2 else None)
    tracked(store, tmp_path / "rec")
    assert {visit.visit for each in tracked_windows(store, "gate") for visit in each.visits} != set()
    assert len({visit.visit for each in tracked_windows(store, "gate") for visit in each.visits}) == 1


def test_what_is_stored_is_no_source(tmp_path: Path) -> None:
    """A store in the folder of the recordings is not tracked, nor are its tables."""
    store = open_store(str(tmp_path / "rec"))
    made = windows(SCENE, until=6)
    paths = record(tmp_path / "rec", made)
    analyse_all(store, paths, made)
    tracked(store, tmp_path / "rec")
    assert store.size(tracked_path("gate", next(tracked_windows(store, "gate")).window.label))
    assert [each.source for _, each in cameras_under(str(tmp_path / "rec"), store)["gate"]] == list(map(str, paths))
