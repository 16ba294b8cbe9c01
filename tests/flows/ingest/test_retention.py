"""Old windows go, with a row about it; whatever is not certainly one of ours stays."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flows.ingest.retention import keep_house
from tasks.core.live.names import WindowRecord, key, rfc3339
from tasks.records.recordings import list_rows, put_window
from tasks.store import Store, open_store
from tests.core.live.test_gaps import T, window

DAY = 86_400.0


@pytest.fixture(params=["folder", "s3"])
def recordings(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "recordings"))
    return open_store(f"s3://{request.getfixturevalue('bucket')}/recordings")


def put(store: Store, record: WindowRecord, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.write_bytes(b"window")
    put_window(store, record, media)


def test_old_windows_go_and_all_else_stays(recordings: Store, tmp_path: Path) -> None:
    windows = [window(n + 1, n * DAY) for n in range(4)]
    for record in windows:
        put(recordings, record, tmp_path)
    strangers = [
        key("gate", T, 99, "mp4"),  # says nothing of itself
        f"camera=gate/{windows[0].key.split('/', 1)[1].replace('.mp4', '.txt')}",
        "camera=gate/notes.txt",
    ]
    for name in strangers:
        recordings.write(name, b"somebody's")
    other = window(7, 1.0)
    put(recordings, other.model_copy(update={"key": key("gate", T + 2.0, 7, "mp4")}), tmp_path)  # says another start
    yard = window(1, 0.0).model_copy(update={"camera": "yard", "key": key("yard", T, 1, "mp4")})
    put(recordings, yard, tmp_path)

    kept = keep_house(recordings, "gate", 1.5 * DAY, T + 3 * DAY)
    assert (kept.deleted, kept.deleted_bytes, kept.oldest) == (2, 12, rfc3339(T + 2 * DAY))
    assert kept.unknown >= 2
    left = set(recordings.list(""))
    assert {record.key for record in windows[2:]} | {*strangers, yard.key, key("gate", T + 2.0, 7, "mp4")} <= left
    assert not any(record.key in left or f"{record.key}.json" in left for record in windows[:2])
    [row] = list_rows(recordings, "retention", "gate")
    assert row["deleted"] == 2

    again = keep_house(recordings, "gate", 1.5 * DAY, T + 3 * DAY + 3600)
    assert (again.deleted, again.unknown) == (0, kept.unknown)


def test_a_record_whose_window_is_gone_goes_too(tmp_path: Path) -> None:
    """The window is removed first; a pass that is killed then leaves its record."""
    store = open_store(str(tmp_path / "recordings"))
    record = window(1, 0.0)
    put(store, record, tmp_path)
    store.delete(record.key)
    assert store.size(f"{record.key}.json") is not None
    keep_house(store, "gate", DAY, T + 2 * DAY)
    assert store.size(f"{record.key}.json") is None


def test_nothing_goes_in_the_time_that_is_kept(recordings: Store, tmp_path: Path) -> None:
    put(recordings, window(1, 0.0), tmp_path)
    assert keep_house(recordings, "gate", 30 * DAY, time.time()).deleted == 1
    put(recordings, window(1, 0.0), tmp_path)
    assert keep_house(recordings, "gate", 30 * DAY, T + DAY).deleted == 0
