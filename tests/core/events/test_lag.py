"""How late a result was: stages that add up, and what a camera's rows come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.events.lag import RECENT, STAGES, Cameras, Lag, lag_of, write_lag
from tests.core.publish.results import result as made

START = datetime(2026, 11, 21, 14, 5, 0, 250_000, UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def lag(source: str, *, put: float = 4.5, analysed: float = 7.0, committed: float = 8.0) -> Lag:
    result = made().model_copy(update={"created": after(analysed)})
    result = result.model_copy(update={"media": result.media.model_copy(update={"duration_s": 3.0})})
    return lag_of(
        result,
        source=source,
        put=after(put),
        received=after(5.0),
        started=after(5.5),
        committed=after(committed),
        origin="aws:s3",
        attempt=1,
        level=0,
    )


WINDOW = "s3://b/camera=gate/2026/11/21/20261121T140500.250Z-00000042.mp4"


def test_the_stages_add_up_from_the_windows_start_to_its_commit() -> None:
    found = lag(WINDOW)
    assert (found.camera, found.recorded) == ("gate", START)
    stages = {name: getattr(found, name) for name in STAGES}
    assert stages == {"capture_s": 3.0, "upload_s": 1.5, "queue_s": 1.0, "analysis_s": 1.5, "commit_s": 1.0}
    assert sum(stages.values()) == (after(8.0) - START).total_seconds()
    assert found.total_s == 3.5


def test_a_name_without_a_time_has_neither_capture_nor_upload() -> None:
    found = lag("s3://b/talk.mp4")
    assert (found.camera, found.recorded, found.capture_s, found.upload_s) == (None, None, None, None)
    assert found.total_s == 3.5


def test_clocks_that_differ_make_no_stage_negative() -> None:
    found = lag(WINDOW, put=6.0, analysed=5.0, committed=5.8)
    assert (found.queue_s, found.analysis_s, found.total_s) == (0.0, 0.0, 0.0)
    assert lag(WINDOW, analysed=9.0).commit_s == 0.0


def test_a_row_is_read_back(tmp_path: Path) -> None:
    found = lag(WINDOW)
    write_lag(found, tmp_path / "part.parquet")
    [row] = pd.read_parquet(tmp_path / "part.parquet").to_dict("records")
    assert Lag.model_validate({name: row[name] for name in Lag.model_fields}) == found
    write_lag(lag("s3://b/talk.mp4"), tmp_path / "other.parquet")
    assert pd.read_parquet(tmp_path / "other.parquet")["recorded"].isna().all()


def test_a_camera_is_summed_up_by_its_latest_objects() -> None:
    cameras = Cameras()
    for number in range(RECENT + 50):
        cameras.add(lag(WINDOW, committed=1000.0 if number < 50 else 8.0 + number / 1000))
    cameras.add(lag("s3://b/talk.mp4"))
    found = cameras.figures()
    assert list(found) == ["-", "gate"]
    gate = found["gate"]
    assert gate["objects"] == RECENT + 50
    assert gate["total_s"] == pytest.approx(3.5 + 0.15, abs=0.01)
    assert gate["total_p95_s"] == pytest.approx(3.5 + 0.24, abs=0.01)
    assert found["-"]["upload_s"] is None
