"""Reports: every figure computed again by pandas from what the store's tables and the ledgers say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest

from tasks.activity import read_activity, write_report
from tasks.core.activity.period import Period
from tasks.core.activity.rows import Activity
from tasks.core.errors import SourceNotFound
from tasks.store import open_store
from tests.tasks.camera_day import DAY, CameraDay, make_day

BEGIN: Any
END: Any
BEGIN, END = (pd.Timestamp(at, unit="s", tz="UTC") for at in (DAY.begin, DAY.end))


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> CameraDay:
    return make_day(tmp_path_factory.mktemp("day"))


@pytest.fixture(scope="module")
def activity(day: CameraDay) -> Activity:
    return read_activity(day.store, DAY, recordings=str(day.recordings), now=lambda: DAY.end + 3600)


@pytest.fixture(scope="module")
def table(day: CameraDay) -> Callable[[str], Any]:
    """A table of the store; times of results with when their windows began."""

    def read(name: str) -> Any:
        found: Any = pd.read_parquet(Path(day.store.root.removeprefix("file://")) / "tables" / name)
        if "media_id" in found and name not in ("runs", "lags", "tracks"):
            runs = read("runs")[["media_id", "camera", "recorded"]].astype({"media_id": str})
            found = found.astype({"media_id": str}).merge(runs, on="media_id")
        return found

    return read


def hourly(times: Any) -> Any:
    """The hour that each moment is in: offsets of Berlin are whole hours."""
    return times.dt.floor("h")


def seconds(spans: pd.DataFrame) -> float:
    """Length of the union of intervals."""
    total, last = 0.0, pd.Timestamp(0, tz="UTC")
    for row in spans.sort_values("from").itertuples():
        begin: Any = max(row[1], last)
        total += max(0.0, (row[2] - begin).total_seconds())
        last = max(last, row[2])
    return total


def clipped(start: Any, end: Any) -> pd.DataFrame:
    found = pd.DataFrame({"from": start.clip(lower=BEGIN), "to": end.clip(upper=END)})
    return found[found["from"] < found["to"]]


def test_a_day_of_25_hours_has_an_hour_twice(activity: Activity) -> None:
    hours = [row for row in activity.hours if row.camera == "gate"]
    assert len(hours) == 25
    assert {row.end - row.start for row in hours} == {3600.0}
    local = [f"{DAY.local(row.start):%H:%M %Z}" for row in hours]
    assert local[1:5] == ["01:00 CEST", "02:00 CEST", "02:00 CET", "03:00 CET"]
    walks = [row.visits for row in hours]
    assert (walks[2], walks[3]) == (2, 1), "02:12 and 02:12 again are two hours"


def test_visits_by_class_and_hour(activity: Activity, table: Callable[[str], Any]) -> None:
    visits = table("visits")
    visits = visits[(visits["start"] < END) & (visits["end"] > BEGIN)]
    assert len(visits) == len(activity.visits) == 10
    begin, end = visits["start"].clip(lower=BEGIN), visits["end"].clip(upper=END)
    dwell = (end - begin).dt.total_seconds()
    said = pd.DataFrame([row.model_dump(by_alias=True) for row in activity.classes]).set_index("class")
    expected = dwell.groupby(visits["class"]).agg(["size", "sum", "median", "max"])
    for name, row in expected.iterrows():
        found = said.loc[[name], ["visits", "dwell_s", "dwell_median_s", "dwell_longest_s"]].iloc[0]
        assert found.tolist() == pytest.approx(row.tolist(), abs=2e-3)
    begun = visits[visits["start"] >= BEGIN]
    counts = begun.groupby([begun["camera"].astype(str), "class", hourly(begun["start"])]).size()
    rows = {
        (row.camera, row.class_, pd.Timestamp(row.start, unit="s", tz="UTC")): row.visits
        for row in activity.class_hours
        if row.visits
    }
    assert rows == counts.to_dict()
    over = [row for row in activity.visits if row.start < DAY.begin]
    assert len(over) == 2, "who came before midnight and stayed is in the day as well"
    lasting = [row for row in activity.visits if row.end > DAY.end]
    assert [row.lasts for row in lasting] == [True]
    assert lasting[0].dwell_s == pytest.approx(6.0, abs=0.21)


def test_boxes_by_class_and_hour(activity: Activity, table: Callable[[str], Any]) -> None:
    boxes = table("detections")
    boxes["at"] = boxes["recorded"] + pd.to_timedelta(boxes["time"], unit="s")
    boxes = boxes[(boxes["at"] >= BEGIN) & (boxes["at"] < END)]
    group = [boxes["camera"], boxes["class"], hourly(boxes["at"])]
    frames = boxes.groupby([*group, boxes["media_id"], boxes["frame"]]).size()
    expected = {
        key: (int(values.sum()), len(values), int(values.max())) for key, values in frames.groupby(level=[0, 1, 2])
    }
    said = {
        (row.camera, row.class_, pd.Timestamp(row.start, unit="s", tz="UTC")): (row.boxes, row.frames, row.most)
        for row in activity.class_hours
        if row.boxes
    }
    assert said == expected
    assert sum(row.boxes for row in activity.classes) == len(boxes)


def test_speech_scenes_cost_and_lag(activity: Activity, table: Callable[[str], Any]) -> None:
    said = table("transcripts")
    for camera in activity.cameras:
        mine = said[said["camera"] == camera.camera]
        spans = clipped(*(mine["recorded"] + pd.to_timedelta(mine[end], unit="s") for end in ("start", "end")))
        assert camera.speech_s == pytest.approx(seconds(spans), abs=1e-3)
        hours = [row.speech_s for row in activity.hours if row.camera == camera.camera]
        assert sum(hours) == pytest.approx(seconds(spans), abs=1e-2)
    began = said["recorded"] + pd.to_timedelta(said["start"], unit="s")
    within = (began >= BEGIN) & (began < END)
    assert activity.total("words") == said["text"][within].str.split().str.len().sum()
    scenes = table("scenes")
    scenes["at"] = scenes["recorded"] + pd.to_timedelta(scenes["time"], unit="s")
    scenes = scenes[(scenes["at"] >= BEGIN) & (scenes["at"] < END)]
    assert activity.total("scenes") == len(scenes)
    by_hour = scenes.groupby(hourly(scenes["at"])).size().to_dict()
    rows: Any = pd.DataFrame([row.model_dump() for row in activity.hours])
    told = rows[rows["scenes"] > 0].groupby("start")["scenes"].sum()
    assert {pd.Timestamp(at, unit="s", tz="UTC"): n for at, n in told.items()} == by_hour
    runs = table("runs")
    runs = runs[(runs["recorded"] >= BEGIN) & (runs["recorded"] < END)]
    assert activity.total("cost_usd") == pytest.approx(runs["cost_usd"].sum())
    lags = table("lags")
    lags = lags[(lags["recorded"] >= BEGIN) & (lags["recorded"] < END)]
    for camera in activity.cameras:
        assert camera.lag_median_s == pytest.approx(median(lags["total_s"][lags["camera"] == camera.camera]), abs=1e-3)


def test_recorded_time_and_gaps(activity: Activity, table: Callable[[str], Any], day: CameraDay) -> None:
    runs = table("runs")
    for camera in activity.cameras:
        mine = runs[runs["camera"] == camera.camera]
        spans = clipped(mine["recorded"], mine["recorded"] + pd.to_timedelta(mine["duration_s"], unit="s"))
        assert camera.recorded_s == pytest.approx(seconds(spans), abs=1e-2)
    paths = sorted(day.recordings.glob("ledger/gaps/camera=gate/**/*.json"))
    gaps = pd.DataFrame([json.loads(path.read_text()) for path in paths])
    start = pd.to_datetime(gaps["start"], utc=True)
    end = pd.to_datetime(gaps["end"], utc=True).fillna(END)
    assert len(gaps) == 5
    spans = clipped(start, end)
    assert len(spans) == len(activity.gaps) == 3
    assert [row.lasts for row in activity.gaps] == [False, False, True]
    assert activity.total("gap_s") == pytest.approx(seconds(spans))
    gate = activity.cameras[0]
    assert gate.unexplained_s == pytest.approx(DAY.seconds - gate.recorded_s - gate.gap_s + 10, abs=10.1)
    assert [(row.kind, row.start, row.end) for row in activity.health] == [("dark", DAY.begin, DAY.begin + 60)]


def test_the_log_of_windows(activity: Activity, day: CameraDay, table: Callable[[str], Any]) -> None:
    runs = table("runs").astype({"media_id": str}).set_index("media_id")
    rows = {row.link: row for row in activity.windows}
    recorded = sorted(map(str, day.recordings.glob("camera=*/**/*.mp4")))
    out = [link for link in recorded if link not in rows]
    assert len(out) == 4 + 6, "windows that end before the day, or begin after it, are not in it"
    for row in activity.windows:
        if row.state == "analysed":
            run = runs.loc[row.media_id]
            assert (row.duration_s, row.width, row.height) == (run["duration_s"], run["width"], run["height"])
            result = json.loads(
                (Path(day.store.root.removeprefix("file://")) / f"media/{row.media_id}/result.json").read_text()
            )
            audio = result["media"]["audio"] or {}
            assert (row.channels, row.sample_rate) == (audio.get("channels"), audio.get("sample_rate"))
    assert rows[str(day.aside)].state == "set_aside"
    assert rows[str(day.aside)].reason == "corrupt: no media"
    assert rows[str(day.waiting)].state == "waiting"
    assert (activity.total("waiting"), activity.total("set_aside")) == (1, 1)
    assert activity.total("windows") == len(rows)


def test_alerts_are_those_of_the_day(activity: Activity, day: CameraDay) -> None:
    stored = [json.loads((day.store.read(path) or (b"",))[0]) for path in day.store.list("alerts/rows")]
    mine = sorted(each["id"] for each in stored if DAY.begin <= each["time"] < DAY.end)
    assert sorted(row.id for row in activity.alerts) == mine
    assert len(mine) < len(stored)
    assert activity.cameras[0].alerts == len(mine) == sum(row.alerts for row in activity.hours)


def test_what_the_store_alone_knows_is_the_same(activity: Activity, day: CameraDay) -> None:
    alone = read_activity(day.store, DAY, now=lambda: DAY.end + 3600)
    assert (alone.ledgers, alone.gaps, alone.total("waiting"), alone.total("unexplained_s")) == (False, [], 0, 0.0)
    assert any("No recordings were named" in notice for notice in alone.notices)
    assert alone.classes == activity.classes
    assert alone.visits == activity.visits
    assert [row for row in alone.windows if row.state == "analysed"] == [
        row for row in activity.windows if row.state == "analysed"
    ]


def test_two_halves_make_the_whole(activity: Activity, day: CameraDay) -> None:
    noon = DAY.begin + 14 * 3600 + 7.3
    spans = [(DAY.begin, noon), (noon, DAY.end)]
    halves = [
        read_activity(
            day.store,
            Period(begin=begin, end=end, timezone=DAY.timezone),
            recordings=str(day.recordings),
            now=lambda: DAY.end + 3600,
        )
        for begin, end in spans
    ]
    for field in ("speech_s", "words", "scenes", "recorded_s", "gap_s", "cost_usd", "alerts"):
        assert sum(half.total(field) for half in halves) == pytest.approx(activity.total(field), abs=5e-3), field
    for field in ("boxes", "frames", "dwell_s"):
        whole = sum(getattr(row, field) for row in activity.classes)
        assert sum(getattr(row, field) for half in halves for row in half.classes) == pytest.approx(whole, abs=2e-2)


def test_one_camera_and_one_that_is_not_there(day: CameraDay) -> None:
    for recordings in (str(day.recordings), None):
        found = read_activity(day.store, DAY, recordings=recordings, cameras=["yard"])
        assert [camera.camera for camera in found.cameras] == ["yard"]
        assert {row.camera for row in found.windows} == {"yard"}
        with pytest.raises(SourceNotFound, match=r"no camera 'barn'; there is gate, yard"):
            read_activity(day.store, DAY, recordings=recordings, cameras=["barn"])


def test_what_is_not_over_is_not_missing(day: CameraDay) -> None:
    """Nobody knows what comes: time behind now is neither recorded nor missing."""
    now = DAY.begin + 2 * 3600
    found = read_activity(day.store, DAY, recordings=str(day.recordings), cameras=["yard"], now=lambda: now)
    assert found.cameras[0].unexplained_s == pytest.approx(2 * 3600)
    assert any("not over" in notice for notice in found.notices)


def test_tables_and_page_are_stored_and_are_no_source(activity: Activity, day: CameraDay) -> None:
    files = write_report(day.store, activity)
    assert write_report(day.store, activity) == files
    for name in ("windows", "visits", "alerts", "gaps", "health", "hours", "class_hours", "cameras"):
        parquet = pd.read_parquet(io.BytesIO((day.store.read(f"{files.folder}/{name}.parquet") or (b"",))[0]))
        text = pd.read_csv(io.BytesIO((day.store.read(f"{files.folder}/{name}.csv") or (b"",))[0]))
        assert len(parquet) == len(text) == len(getattr(activity, name)) > 0
        assert list(text.columns) == ["local", *parquet.columns]
    windows = pd.read_csv(io.BytesIO((day.store.read(f"{files.folder}/windows.csv") or (b"",))[0]))
    assert windows["local"][0].startswith("2026-10-25 00:00:00+02:00") or windows["local"][0] < "2026-10-25"
    assert windows["link"].tolist() == [row.link for row in activity.windows]
    assert b"open the door" not in (day.store.read(files.page) or (b"",))[0]
    from tasks.store import own_objects

    assert own_objects(day.store)(day.store.uri(files.page))


def test_a_ledger_is_read_from_a_bucket_too(s3_store: Any, day: CameraDay) -> None:
    """Recordings and store in a bucket of a real server: folders by delimiter, windows by day."""
    bucket = s3_store.root.rpartition("/some/")[0]
    recordings = open_store(f"{bucket}/recordings")
    for path in day.recordings.rglob("*.*"):
        if path.is_file():
            recordings.write(path.relative_to(day.recordings).as_posix(), path.read_bytes())
    found = read_activity(s3_store, DAY, recordings=recordings.root, now=lambda: DAY.end + 3600)
    assert [camera.camera for camera in found.cameras] == ["gate", "yard"]
    assert found.total("waiting") == found.total("windows") > 40, "nothing of this bucket is analysed"
    assert len(found.gaps) == 3
    assert datetime.fromtimestamp(min(row.start for row in found.windows), UTC).hour == 22
