"""result.json is committed once, views follow it, and bad sources are set aside."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import CorruptMedia, PermissionDenied, SourceChanged, SourceNotFound, UnsupportedSource
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.core.schema import AnalyzeReport, Detections, MediaInfo, MediaRef, ModelInfo, Result, Transcript
from tasks.records import results
from tasks.records.sources import recall, remember, request_key
from tasks.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def _result(key: str = "k", source: str = "a.mp4") -> Result:
    return Result(
        media_id="m",
        key=key,
        source=source,
        media=MediaInfo(container="mp4", bytes=1, duration_s=1.0, start_offset_s=0.0),
        options={},
        models={},
        transcript=Transcript(),
        clips=[],
        detections=Detections(),
        artifacts={},
        timing={},
        cost={"total": 0.0},
        created=datetime.now(UTC),
    )


def test_an_equal_result_stays(store: Store) -> None:
    first = results.commit_result(store, _result(source="first"))
    again = results.commit_result(store, _result(source="second"))
    assert again == first
    found = results.read_result(store, "m")
    assert found is not None
    assert found[0].source == "first"


def test_another_key_replaces_it_whole(store: Store) -> None:
    results.commit_result(store, _result("old"))
    results.commit_result(store, _result("new"))
    found = results.read_result(store, "m")
    assert found is not None
    assert found[0].key == "new"
    assert results.whole_result(store, "m", "old") is None
    assert results.whole_result(store, "m", "new") == found[0]


def test_concurrent_equal_commits_end_with_one(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        committed = list(pool.map(lambda n: results.commit_result(store, _result(source=str(n))), range(8)))
    assert len({result.source for result in committed}) == 1


def test_a_result_that_misses_an_artifact_is_not_whole(store: Store) -> None:
    missing = _result().model_copy(update={"artifacts": {"audio": store.uri("media/m/audio/" + "0" * 32)}})
    results.commit_result(store, missing)
    assert results.whole_result(store, "m", "k") is None


def test_views_are_fresh_only_for_their_result(store: Store) -> None:
    result = results.commit_result(store, _result())
    assert not results.views_are_fresh(store, result)
    store.write("media/m/report.html", b"page")
    results.mark_views(store, result, {"media/m/report.html": 4})
    assert results.views_are_fresh(store, result)
    assert not results.views_are_fresh(store, _result("other"))
    store.delete("media/m/report.html")
    assert not results.views_are_fresh(store, result)


def test_the_key_follows_content_options_and_models() -> None:
    models = {"transcript": ModelInfo(name="a", digest="1")}
    base = results.result_key("m", AnalyzeOptions(), models)
    assert base == results.result_key("m", AnalyzeOptions(), models)
    assert base != results.result_key("n", AnalyzeOptions(), models)
    assert base != results.result_key("m", parse_options(["frames.fps=2"]), models)
    assert base != results.result_key("m", AnalyzeOptions(), {})


@pytest.mark.parametrize(
    "change", ["limits.max_bytes=5", "limits.max_duration_s=9", "frames.batch_size=3", "transcript.batch_size=3"]
)
def test_how_the_work_is_done_is_no_part_of_the_key(change: str) -> None:
    changed = parse_options([change])
    assert results.result_key("m", changed, {}) == results.result_key("m", AnalyzeOptions(), {})
    assert request_key(changed) == request_key(AnalyzeOptions())
    assert request_key(changed, "limit_exceeded") != request_key(AnalyzeOptions(), "limit_exceeded")
    assert request_key(changed, "corrupt") == request_key(AnalyzeOptions(), "corrupt")


def test_what_was_set_aside_for_a_limit_is_tried_again_with_another(store: Store) -> None:
    for code, again in (("limit_exceeded", True), ("corrupt", False)):
        report = AnalyzeReport(
            source=code,
            media_id="m",
            status="quarantined",
            result=None,
            seconds=0,
            cached=False,
            error={"code": code, "message": "no"},
        )
        remember(store, code, "v1", AnalyzeOptions(), report)
        assert recall(store, code, "v1", AnalyzeOptions(), {}) is not None
        assert (recall(store, code, "v1", parse_options(["limits.max_bytes=5"]), {}) is None) == again


def test_damaged_records_count_as_none(store: Store) -> None:
    result = results.commit_result(store, _result())
    store.write("media/m/report.html", b"page")
    results.mark_views(store, result, {"media/m/report.html": 4})
    remember(
        store,
        "a",
        "v1",
        AnalyzeOptions(),
        AnalyzeReport(source="a", media_id="m", status="done", result=None, seconds=0, cached=False),
    )
    [record] = store.list("sources")
    for path in (record, "media/m/views.json", "media/m/result.json"):
        store.write(path, b'{"key": "k", "fi')
    assert recall(store, "a", "v1", AnalyzeOptions(), {}) is None
    assert results.read_result(store, "m") is None
    assert not results.views_are_fresh(store, result)
    assert results.commit_result(store, result) == result
    assert results.read_result(store, "m") is not None


def test_quarantine_hides_secrets_and_is_released(store: Store) -> None:
    record = results.quarantine(
        store, "https://user:pw@host/x.mp4?token=secret", None, CorruptMedia("bad", detail="tool said")
    )
    found = store.read(f"quarantine/{record.media_id}.json")
    assert found is not None
    assert b"secret" not in found[0]
    assert b"pw" not in found[0]
    assert b"tool said" in found[0]
    assert record.media_id
    results.release(store, record.media_id)
    assert store.read(f"quarantine/{record.media_id}.json") is None


def test_a_record_by_name_goes_when_the_name_is_readable(store: Store) -> None:
    media = MediaRef(media_id="c" * 32, source="/a.mp4", bytes=1, store=store.address)
    results.quarantine(store, "/a.mp4", None, PermissionDenied("may not be read"))
    results.quarantine(store, "/other.mp4", None, PermissionDenied("may not be read"))
    assert len(list(store.list("quarantine"))) == 2
    results.quarantine(store, "/a.mp4", media, CorruptMedia("bad"))
    records = [json.loads(found[0]) for path in store.list("quarantine") if (found := store.read(path))]
    assert sorted((record["source"], record["code"]) for record in records) == [
        ("/a.mp4", "corrupt"), ("/other.mp4", "permission_denied"),
    ]  # fmt: skip


def test_what_is_no_source_leaves_no_record(store: Store) -> None:
    media = MediaRef(media_id="c" * 32, source="/a.mp4", bytes=1, store=store.address)
    for error in (SourceNotFound("typing error"), UnsupportedSource("a folder"), SourceChanged("grows")):
        assert results.quarantine(store, "/a.mp4", None, error).media_id is None
        assert results.quarantine(store, "/a.mp4", media, error).media_id is None
    assert list(store.list("quarantine")) == []
