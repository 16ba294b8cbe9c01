import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from flows.explorer import create_app
from tasks.core.schema import Clip, Result
from tasks.core.search import Moment, Query, QueryError
from tasks.records.results import VIEWS_MARKER, result_path, table_path
from tasks.store import Store
from tests.core.publish.results import hostile
from tests.flows.explorer.stores import add_media, served

Sample = Callable[..., Path]
OUTSIDE = ("../../secret", "..%2f..%2fsecret", "%2e%2e", "/etc/passwd", "....//secret", "a" * 32, "A" * 32, "0" * 31)


def test_a_search_gives_moments_with_their_media_and_picture(client: TestClient, shown: Result) -> None:
    found = client.get("/api/search", params={"q": "one two three", "kind": "speech"}).json()
    [moment] = found["moments"]
    assert (moment["media_id"], moment["start"], moment["end"], moment["kind"]) == (shown.media_id, 1.25, 2.0, "speech")
    assert moment["name"] == "talk.mp4"
    assert "one two three" in moment["why"]
    assert moment["picture"].startswith(f"/api/media/{shown.media_id}/picture?xywh=")
    assert client.get(moment["picture"]).headers["content-type"] == "image/jpeg"
    assert found["seconds"] > 0
    assert not found["more"]


def test_filters_reach_the_search(store: Store, shown: Result) -> None:
    asked: list[Query] = []

    def find(query: Query) -> list[Moment]:
        asked.append(query)
        return []

    client = TestClient(create_app(store, find), base_url="http://localhost")
    params = (
        "q=car&kind=objects&kind=tags&media={}&prefix=s3://b/&camera=door&since=2026-01-02&until=2026-01-03&limit=7"
    )
    assert client.get(f"/api/search?{params.format(shown.media_id)}").status_code == 200
    assert asked == [
        Query(
            text="car",
            kinds=frozenset({"objects", "tags"}),
            media=frozenset({shown.media_id}),
            prefix="s3://b/",
            camera="door",
            since=datetime(2026, 1, 2, tzinfo=UTC),
            until=datetime(2026, 1, 4, tzinfo=UTC),
            limit=7,
        )
    ]


@pytest.mark.parametrize(
    "params", ["", "q=", "q=%00", "q=x&kind=all", "q=x&media=..", "q=x&since=yesterday", "q=x&until=2026-13-01",
               "q=x&limit=-1", "q=x&limit=0", "q=x&limit=1e3", "q=x&limit=²", "q=" + "x" * 501,
               "q=x&prefix=" + "x" * 2001],
)  # fmt: skip
def test_a_question_that_cannot_be_asked_is_refused(client: TestClient, params: str) -> None:
    answer = client.get(f"/api/search?{params}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_question_the_search_refuses_says_why(store: Store, shown: Result) -> None:
    def refuse(query: Query) -> list[Moment]:
        raise QueryError("write a class: <b>car</b>")

    client = TestClient(create_app(store, refuse), base_url="http://localhost")
    answer = client.get("/api/search?q=x")
    assert (answer.status_code, answer.json()) == (400, {"error": "write a class: <b>car</b>"})


@pytest.mark.parametrize("thumbnail", ["file:///etc/passwd#xywh=0,0,9,9", "javascript:alert(1)", "#xywh=0,0,9,9",
                                       "{store}/media/{other}/storyboard.jpg#xywh=0,0,9,9",
                                       "{store}/media/{id}/storyboard.jpg#xywh=0,0,9,9&x=<"])  # fmt: skip
def test_a_thumbnail_from_elsewhere_is_not_shown(store: Store, shown: Result, thumbnail: str) -> None:
    address = thumbnail.format(store=store.root, id=shown.media_id, other="0" * 32)
    moment = Moment(
        media_id=shown.media_id, source="x", start=0, end=1, score=1, kind="tags", why="w", thumbnail=address
    )
    client = TestClient(create_app(store, lambda query: [moment]), base_url="http://localhost")
    assert client.get("/api/search?q=x").json()["moments"][0]["picture"] is None


def test_the_newest_media_come_first(client: TestClient, store: Store, shown: Result, sample: Sample) -> None:
    other = add_media(store, sample("video_only"), "s3://bucket/camera=door 1/20261121T140500Z.mp4")
    found = client.get("/api/media").json()
    assert [media["media_id"] for media in found["media"]] == [other.media_id, shown.media_id]
    assert found["media"][0]["camera"] == "door 1"
    assert found["media"][0]["recorded"] == "2026-11-21T14:05:00+00:00"
    assert found["media"][1]["classes"] == ["car", "person"]
    assert found["cameras"] == ["door 1"]
    assert client.get("/api/media?limit=1").json()["more"]


@pytest.mark.parametrize(
    ("params", "count"),
    [("camera=door 1", 1), ("camera=door", 0), ("prefix=s3://bucket/", 1), ("prefix=s3://bucket/x", 0),
     ("since=2026-11-21&until=2026-11-21", 1), ("since=2026-11-22", 0), ("until=2026-11-20", 1),
     ("until=9999-12-31", 2), ("media={id}", 1), ("media=" + "0" * 32, 0)],
)  # fmt: skip
def test_the_list_is_filtered(
    client: TestClient, store: Store, shown: Result, sample: Sample, params: str, count: int
) -> None:
    add_media(store, sample("video_only"), "s3://bucket/camera=door%201/20261121T140500Z.mp4")
    assert len(client.get(f"/api/media?{params.format(id=shown.media_id)}").json()["media"]) == count


def test_a_damaged_table_leaves_out_its_media_only(client: TestClient, store: Store, shown: Result) -> None:
    store.write(table_path("runs", "f" * 32), b"PAR1 no table")
    store.write("tables/runs/media_id=../part.parquet/x", b"")
    assert [media["media_id"] for media in client.get("/api/media").json()["media"]] == [shown.media_id]


def test_a_media_has_all_that_was_found(client: TestClient, shown: Result) -> None:
    page = client.get(f"/api/media/{shown.media_id}").json()
    assert [segment["text"] for segment in page["segments"]] == ["hello there", "one two three", "good bye"]
    assert [(each["name"], each["count"]) for each in page["classes"]] == [("car", 4), ("person", 1)]
    assert page["frames"][1] == [1.0, [[0, 0.75, 10, 20, 90, 80], [1, 0.5, 100, 5, 150, 100]]]
    assert [scene["method"] for scene in page["scenes"]] == ["ema", "shot"]
    assert page["chunks"][0] == {
        "start": 0.0,
        "end": 2.0,
        "tags": ["a street"],
        "caption": "Cars drive along a street.",
    }
    assert len(page["timeline"]["objects"]) == 2
    assert page["runs"] is None


def test_the_runs_in_prefect_are_found_by_name(store: Store, shown: Result) -> None:
    app = create_app(store, lambda query: [], runs_url="http://127.0.0.1:4200/")
    page = TestClient(app, base_url="http://localhost").get(f"/api/media/{shown.media_id}").json()
    assert page["runs"] == "http://127.0.0.1:4200/runs?flow-run-search=analyze%3A%20talk.mp4"


def test_downloads_are_those_that_are_there(client: TestClient, store: Store, shown: Result) -> None:
    page = client.get(f"/api/media/{shown.media_id}").json()
    names = [file["name"] for file in page["files"]]
    assert {"result.json", "transcript.srt", "report.html", "transcripts.parquet", "runs.parquet"} <= set(names)
    assert "transcript.vtt" not in names
    for file in page["files"]:
        answer = client.get(file["href"])
        assert answer.status_code == 200
        assert file["bytes"] in (None, len(answer.content))
    assert client.get(f"/api/media/{shown.media_id}/files/transcript.vtt").status_code == 404


def test_a_download_is_not_shown_and_a_report_is_sealed_off(client: TestClient, shown: Result) -> None:
    files = f"/api/media/{shown.media_id}/files"
    name = f"{shown.media_id[:8]}-result.json"
    assert client.get(f"{files}/result.json").headers["content-disposition"] == f'attachment; filename="{name}"'
    policy = client.get(f"{files}/report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy


def test_an_old_marker_of_views_offers_only_the_result(client: TestClient, store: Store, shown: Result) -> None:
    for content in (b"nothing", b"[]", b'{"files": 3}', json.dumps({"files": {"/etc/passwd": 1}}).encode()):
        store.write(f"media/{shown.media_id}/{VIEWS_MARKER}", content)
        files = client.get(f"/api/media/{shown.media_id}").json()["files"]
        assert [file["name"] for file in files] == ["result.json"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_the_media_of_the_store_is_served(
    client: TestClient, store: Store, shown: Result, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    store.write("secret", b"secret")
    media = shown.media_id
    for path in (f"/media/{name}", f"/api/media/{name}", f"/api/media/{name}/source", f"/api/media/{name}/picture",
                 f"/api/media/{name}/files/result.json", f"/api/media/{media}/files/{name}",
                 f"/api/media/{media}/clips/{name}", f"/static/{name}", f"/{name}"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 404 or (path.endswith("/picture") and "svg" in answer.headers["content-type"])
        assert answer.text != "secret"


def test_a_clip_is_served_by_its_number(client: TestClient, store: Store, shown: Result, talk: Path) -> None:
    store.write(f"media/{shown.media_id}/clips/{'c' * 32}/clip_0000.mp4", talk.read_bytes())
    part = client.get(f"/api/media/{shown.media_id}/clips/0", headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    for number in (1, 10**30, -1, "x"):
        assert client.get(f"/api/media/{shown.media_id}/clips/{number}").status_code == 404


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "{store}/media/{id}/clips/../../../secret.mp4", "", "s3://b/k",
            "{store}/media/{id}/result.json", "{store}/media/{other}/clips/{key}/clip_0000.mp4"],
)  # fmt: skip
def test_a_clip_that_names_anything_else_is_not_served(
    store: Store, client: TestClient, shown: Result, uri: str
) -> None:
    uri = uri.format(store=store.root, id=shown.media_id, other="0" * 32, key="c" * 32)
    store.write(f"media/{'0' * 32}/clips/{'c' * 32}/clip_0000.mp4", b"other")
    forged = shown.model_copy(update={"clips": [Clip(start=0, end=1, uri=uri)]})
    store.write(result_path(shown.media_id), forged.model_dump_json(by_alias=True).encode())
    assert client.get(f"/api/media/{shown.media_id}/clips/0").status_code == 404


def test_pages_are_the_same_whatever_the_media_is_called(store: Store, client: TestClient, shown: Result) -> None:
    before = client.get(f"/media/{shown.media_id}")
    attack = hostile().model_copy(update={"media_id": shown.media_id})
    store.write(result_path(shown.media_id), attack.model_dump_json(by_alias=True).encode())
    after = client.get(f"/media/{shown.media_id}")
    assert before.status_code == after.status_code == 200
    assert before.text == after.text
    assert client.get(f"/api/media/{shown.media_id}").headers["content-type"] == "application/json"


def test_unknown_media_are_a_clear_page(client: TestClient) -> None:
    answer = client.get(f"/media/{'0' * 32}")
    assert answer.status_code == 404
    assert "nothing here" in answer.text


def test_what_nobody_waits_for_is_not_searched(store: Store, shown: Result) -> None:
    """One search at a time; the ones that were given up meanwhile are left out."""
    asked: list[str] = []
    busy, go_on = threading.Event(), threading.Event()

    def find(query: Query) -> list[Moment]:
        asked.append(query.text)
        busy.set()
        assert go_on.wait(30)
        return []

    with served(create_app(store, find)) as base, ThreadPoolExecutor(2) as pool:
        first = pool.submit(httpx.get, f"{base}/api/search?q=a")
        assert busy.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{base}/api/search?q=ab", timeout=httpx.Timeout(10, read=0.5))
        last = pool.submit(httpx.get, f"{base}/api/search?q=abc", timeout=30)
        time.sleep(0.2)
        go_on.set()
        assert first.result().status_code == last.result().status_code == 200
    assert asked == ["a", "abc"]
