"""Alerts and visits as the explorer gives them: what, in which order, of which days, and nothing that is forged."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from flows.explorer import create_app, sightings
from tasks.alerts import alert_path, image_path
from tasks.core.alerts.rules import read_rules
from tasks.core.frame_batch import Frames, save_frames
from tasks.core.options import FrameOptions
from tasks.core.schema import ArtifactRef, Result
from tasks.records import artifacts
from tasks.records.deliveries import deliver, open_delivery
from tasks.stages.vision import FRAMES
from tasks.store import Store, open_store
from tests.flows.explorer.stores import add_alert, add_media, add_visit

BUCKET = "explorer-alerts"
NOON = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()
"""In summer time; the clocks of Berlin go back in the night after it."""
DAY_S = 86400.0

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "store"))
        return
    import boto3

    for name, value in request.getfixturevalue("s3_environment").items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield open_store(f"s3://{BUCKET}/of a/store")
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def client_of(store: Store) -> TestClient:
    return TestClient(create_app(store, lambda query: []), base_url="http://localhost")


def asker(store: Store) -> Ask:
    client = client_of(store)

    def ask(kind: str = "alerts", **params: Any) -> dict[str, Any]:
        answer = client.get(f"/api/{kind}", params=params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    return ask


def ids(answer: dict[str, Any]) -> list[int]:
    return [int(item["id"], 16) for item in answer["items"]]


def jpeg(width: int = 640, height: int = 360) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (0, 90, 200)).save(out, "JPEG")
    return out.getvalue()


def test_alerts_and_visits_with_all_that_is_shown(store: Store, talk: Path) -> None:
    media = add_media(store, talk)
    shown: dict[str, Any] = {"media_id": media.media_id, "media_time": 7.25}
    alert = add_alert(store, 1, NOON, **shown)
    add_alert(store, 2, NOON + 60, camera="back yard/ü", kind="absence", classes=(), why="nobody from 8 to 9")
    store.write(image_path(alert.id), jpeg())
    add_visit(store, 3, NOON - 4, best={"media_id": media.media_id, "media_time": 1.0})
    add_visit(store, 4, NOON + 13 * 3600, ended=False)
    client, ask = client_of(store), asker(store)

    found = ask(zone="Europe/Berlin")
    assert ids(found) == [2, 1]
    assert found["cameras"] == ["back yard/ü", "gate"]
    assert (found["after"], found["cut"], found["zone"]) == (None, False, "Europe/Berlin")
    absent, seen = found["items"]
    assert seen == {
        "id": alert.id,
        "camera": "gate",
        "rule": "somebody at the gate",
        "why": "person in zone",
        "day": "2026-10-24",
        "time": "14:00:00 CEST",
        "href": f"/media/{media.media_id}#t=2.25",
        "picture": f"/api/alerts/{alert.id}/picture",
        "deliveries": [],
    }
    assert (absent["camera"], absent["href"]) == ("back yard/ü", None)
    picture = client.get(seen["picture"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (320, 180)
    assert client.get(absent["picture"]).headers["content-type"] == "image/svg+xml", "no frame is kept of it"
    assert ids(ask(camera="back yard/ü")) == [2]
    assert ids(ask(camera="nowhere")) == []

    found = ask("visits", zone="Europe/Berlin")
    assert ids(found) == [4, 3]
    lasts, ended = found["items"]
    assert (lasts["lasts"], lasts["day"], lasts["time"]) == (True, "2026-10-25", "02:00:00 CET")
    assert (ended["class"], ended["dwell"], ended["end_time"]) == ("person", 65.0, "14:01:01 CEST")
    assert ended["href"] == f"/media/{media.media_id}#t=0.00"
    assert client.get(ended["picture"]).headers["content-type"] == "image/jpeg", "of the storyboard: no frames are kept"


def test_the_best_picture_is_the_sampled_frame_with_its_box(folder: Store, talk: Path, tmp_path: Path) -> None:
    media = add_media(folder, talk)
    key = "a" * 32
    uri = folder.uri(f"media/{media.media_id}/frames/{key}")
    ref = ArtifactRef(media_id=media.media_id, stage="frames", key=key, uri=uri, store=folder.address)
    with folder.workspace() as work:
        blank = [np.full((360, 640, 3), 40, np.uint8)] * 2
        save_frames(Frames(blank, [0.5, 1.0], [0, 1], 640, 360), work / FRAMES, FrameOptions())
        artifacts.save(folder, ref, work)
    add_media(folder, talk, artifacts={"frames/0": uri})
    add_visit(folder, 1, NOON, best={"media_id": media.media_id, "media_time": 1.0})
    [visit] = asker(folder)("visits")["items"]
    got = Image.open(io.BytesIO(client_of(folder).get(visit["picture"]).content)).convert("RGB")
    assert got.size == (320, 180)
    edge, inside = got.getpixel((160, 80)), got.getpixel((200, 80))
    assert isinstance(edge, tuple)
    assert isinstance(inside, tuple)
    assert edge[0] > 120, "the box's left edge, at half of the width"
    assert max(inside) < 60


@pytest.mark.parametrize("kind", ["alerts", "visits"])
def test_pages_give_each_row_once_in_order(store: Store, kind: str) -> None:
    """Of equal times, of several cameras and days, and with an alert whose visit began on the day before."""
    add = add_alert if kind == "alerts" else add_visit
    times = [NOON, NOON, NOON, NOON - 0.25, NOON - DAY_S, NOON - 9 * DAY_S, NOON + 3, NOON + 12 * 3600 + 2]
    for number, time in enumerate(times):
        add(store, number, time, camera="gate" if number % 2 else "yard")
    expected = sorted(range(len(times)), key=lambda number: (times[number], number), reverse=True)
    ask, got, after = asker(store), [], None
    while True:
        found = ask(kind, limit=3, **({"after": after} if after else {}))
        got += ids(found)
        after = found["after"]
        if after is None:
            break
    assert got == expected


def test_an_alert_stands_at_its_time_not_under_its_visits_day(folder: Store) -> None:
    midnight = NOON + 12 * 3600
    add_alert(folder, 1, midnight + 3600, start=midnight - 3600)
    add_alert(folder, 2, midnight + 60, start=midnight + 50)
    ask = asker(folder)
    assert ids(ask(limit=1)) == [1]
    assert ids(ask(day="2026-10-25")) == [1, 2]
    assert ids(ask(day="2026-10-24")) == []


@pytest.mark.parametrize("kind", ["alerts", "visits"])
def test_a_day_is_the_places_day(folder: Store, kind: str) -> None:
    """That of Berlin has 25 hours here, and begins at 22:00 UTC."""
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()
    for number, time in enumerate((begin - 1, begin, begin + 25 * 3600 - 1, begin + 25 * 3600)):
        (add_alert if kind == "alerts" else add_visit)(folder, number, time)
    ask = asker(folder)
    assert ids(ask(kind, day="2026-10-25", zone="Europe/Berlin")) == [2, 1]
    assert [item["time"] for item in ask(kind, day="2026-10-25", zone="Europe/Berlin")["items"]] == [
        "23:59:59 CET",
        "00:00:00 CEST",
    ]
    assert ids(ask(kind, day="2026-10-25")) == [3, 2]


def test_only_the_days_that_are_shown_are_read(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        add_alert(folder, number, NOON - number * DAY_S)
        add_visit(folder, number, NOON - number * DAY_S)
    read: list[str] = []
    real = type(folder).read

    def noted(self: Store, path: str) -> Any:
        read.append(path)
        return real(self, path)

    monkeypatch.setattr(type(folder), "read", noted)
    ask = asker(folder)
    assert ids(ask(limit=2)) == [0, 1]
    assert ids(ask("visits", limit=2)) == [0, 1]
    assert ids(ask(day="2026-10-20")) == [4]
    assert len([path for path in read if path.startswith(("alerts/rows", "tables/visits"))]) < 16


def test_of_a_crowded_day_the_rows_written_last_are_read(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "MOST_A_DAY", 3)
    for number in range(5):
        alert = add_alert(folder, number, NOON + number)
        os.utime(folder.local(alert_path(alert)), (NOON + number, NOON + number))
    found = asker(folder)()
    assert (ids(found), found["cut"]) == ([4, 3, 2], True)


def test_what_became_of_messages(folder: Store) -> None:
    """The ledger as `alerts run` keeps it: sent, failed with what the target said, and held in quiet hours."""
    held = "quiet: {from: '00:00', to: '24:00', then: hold}"
    rules = read_rules(
        "targets:\n  a: {webhook: 'https://example.org/'}\n  b: {webhook: 'https://example.org/'}\n"
        f"  <c>: {{webhook: 'https://example.org/', {held}}}\n"
        "rules:\n  - {name: r, class: person, to: [a, b, <c>]}\n"
    )
    alert = add_alert(folder, 1, NOON)
    for target in rules.targets:
        open_delivery(folder, alert_path(alert), alert, target)

    def send(target: Any, alert: Any, zone: str, key: str, attempt: int, again: bool) -> Any:
        return outcomes.pop(0)

    outcomes = [("sent", ""), ("refused", "410 <b>gone</b>")]
    list(deliver(folder, rules, lambda store, path: alert, send, now=lambda: NOON + 2))
    [item] = asker(folder)(zone="Europe/Berlin")["items"]
    rows = {row["state"]: row for row in item["deliveries"]}
    assert {row["target"] for row in rows.values()} == {"a", "b", "<c>"}
    assert (rows["sent"]["time"], rows["sent"]["tries"]) == ("14:00:02 CEST", 1)
    assert rows["failed"]["why"] == "410 <b>gone</b>"
    assert "quiet hours" in rows["held"]["why"]
    for path in list(folder.list(f"alerts/deliveries/{alert.id}")):
        folder.write(path, b"{}")
    [item] = asker(folder)()["items"]
    assert item["deliveries"] is None


def test_rows_that_are_damaged_or_forged_are_not_shown(folder: Store) -> None:
    good = add_alert(folder, 1, NOON)
    add_visit(folder, 1, NOON)
    day = alert_path(good).rpartition("/")[0]
    about = json.loads(good.model_dump_json())
    forged: list[tuple[str, bytes]] = [
        (f"{day}/{2:032x}.json", b"{"),
        (f"{day}/{3:032x}.json", json.dumps(about).encode()),  # another's id
        (f"{day}/{4:032x}.json", json.dumps(about | {"id": f"{4:032x}", "camera": "yard"}).encode()),
        (f"{day}/{5:032x}.json", json.dumps(about | {"id": f"{5:032x}", "time": math.nan}).encode()),
        (f"{day}/{6:032x}.json", json.dumps(about | {"id": f"{6:032x}", "time": 1e300}).encode()),
        (f"{day}/{7:032x}.json", json.dumps(about | {"id": f"{7:032x}", "why": "x" * 2**20}).encode()),
        (f"{day}/<script>.json", json.dumps(about | {"id": "<script>"}).encode()),
        ("alerts/rows/camera=gate/9999-99-99/x.json", b"{}"),
        ("alerts/rows/x.json", b"{}"),
        (f"tables/visits/camera=gate/day=2026-10-24/{2:016x}.parquet", b"PAR1"),
    ]
    for path, data in forged:
        folder.write(path, data)
    add_alert(folder, 8, NOON + 1, media_id="../../../secret", media_time=1.0)
    add_alert(folder, 9, NOON + 2, media_id="0" * 32, media_time=1e9)
    ask = asker(folder)
    found = ask()
    assert ids(found) == [9, 8, 1]
    assert [item["href"] for item in found["items"]] == [None, None, None]
    assert ids(ask("visits")) == [1]


@pytest.mark.parametrize("kind", ["alerts", "visits"])
@pytest.mark.parametrize(
    "params", ["day=yesterday", "day=1969-12-31", "day=2026-13-01", "zone=../../etc/passwd", "zone=Mars/Olympus",
               "zone=%00", "limit=-1", "limit=1e3", "after=x", "after=1~2", "after=nan~" + "0" * 32],
)  # fmt: skip
def test_a_list_that_cannot_be_asked_for_is_refused(folder: Store, kind: str, params: str) -> None:
    answer = client_of(folder).get(f"/api/{kind}?{params}")
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("name", ["..%2f..%2fsecret", "%2e%2e", "A" * 32, "0" * 31, "0" * 33])
def test_pictures_of_nothing_else_are_given(folder: Store, tmp_path: Path, name: str) -> None:
    folder.write("alerts/secret.jpg", jpeg())
    answer = client_of(folder).get(f"/api/alerts/{name}/picture")
    assert answer.status_code == 404


def test_a_picture_that_is_none_is_not_sent(folder: Store) -> None:
    for data in (b"<script>alert(1)</script>", jpeg()[:300], b""):
        folder.write(image_path("0" * 32), data)
        answer = client_of(folder).get(f"/api/alerts/{'0' * 32}/picture")
        assert answer.headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize("box", ["", "0.1,0.2,0.3", "0.5,0.5,0.1,0.9", "nan,0,1,1", "9.0,9.0,9.9,9.9", "1e9,0,1,1"])
def test_a_frame_without_a_box_or_with_nonsense(folder: Store, talk: Path, box: str) -> None:
    media: Result = add_media(folder, talk)
    answer = client_of(folder).get(f"/api/media/{media.media_id}/frame", params={"t": "1", "box": box})
    assert answer.headers["content-type"] == "image/jpeg"


def test_a_store_without_cameras_has_neither(store: Store) -> None:
    for kind in ("alerts", "visits"):
        found = asker(store)(kind)
        assert (found["items"], found["after"], found["cameras"]) == ([], None, [])
