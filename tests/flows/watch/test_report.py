"""What a watcher tells of an object: a line, and a Prefect event on the way to a real API."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker

from flows.watch.report import WatchReport, emit, stamp

REPORT = WatchReport(
    source="s3://b/camera=front%20door/20261121T140500Z-1.mp4",
    media_id="0" * 32,
    status="done",
    result="s3://b/store/media/x/result.json",
    seconds=1.5,
    cached=False,
    put="2026-11-21T14:05:03.000Z",
    received="2026-11-21T14:05:03.250Z",
    started="2026-11-21T14:05:03.500Z",
    committed="2026-11-21T14:05:05.000Z",
)


def test_a_line_is_that_of_analyze_with_four_times() -> None:
    line = json.loads(REPORT.line())
    analyze = ["source", "media_id", "status", "result", "seconds", "cached", "error"]
    assert sorted(line) == sorted([*analyze, "put", "received", "started", "committed"])
    assert stamp(datetime(2026, 11, 21, 14, 5, 3, 250_999, UTC)) == REPORT.received


def test_each_object_is_an_event_for_whoever_listens(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = EventsWorker.instance(AssertingEventsClient)
    monkeypatch.setattr(EventsWorker, "instance", lambda *_: worker)
    emit(REPORT)
    worker.wait_until_empty()
    client = AssertingEventsClient.last
    assert client
    [event] = [each for each in client.events or () if each.event == "reelflow.object.done"]
    worker.drain()
    assert event.resource["reelflow.source"] == REPORT.source
    assert event.resource["reelflow.camera"] == "front door"
    assert event.resource.id.startswith("reelflow.object.")
    assert event.payload["committed"] == REPORT.committed
