"""What becomes of events before anything is analysed: on a real S3 server and a real Prefect server."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest

from flows.watch.desk import EVENTS, SWEEP, Desk
from flows.watch.report import WatchReport
from flows.watch.rows import rows
from flows.watch.status import STALLED_S, Watchman, read_all
from tasks.core.errors import NetworkError
from tasks.core.events.notification import parse
from tasks.core.events.shedding import Shedding, ladder
from tasks.core.listing import Selection, list_media
from tasks.core.options import parse_options
from tasks.core.s3 import S3Options
from tasks.store import open_store

ASKED = parse_options(["transcript.enabled=false", "detections.weights=bundled", "frames.fps=2"])


class Counted:
    """A desk that nobody works at, over a bucket of its own."""

    def __init__(self, bucket: str, desk: Desk, heard: list[WatchReport]) -> None:
        self.bucket, self.desk, self.heard = bucket, desk, heard
        self._s3 = boto3.client("s3")

    def put(self, key: str, data: bytes = b"x") -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def tell(self, key: str, name: str = "ObjectCreated:Put", **fields: Any) -> str:
        written = {"key": key, **fields}
        record = {"eventName": name, "s3": {"bucket": {"name": self.bucket}, "object": written}}
        [event] = parse(json.dumps({"Records": [record]})).events
        return self.desk.take_event(event, datetime.now(UTC))

    def sweep(self) -> list[str]:
        found = list_media(self.desk.prefix, self.desk.select, S3Options())
        return [self.desk.take_swept(each) for each in found]


@pytest.fixture
def desk(
    engine: None, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Counted]:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"desk-{abs(hash(request.node.name)) % 10**9}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    root = open_store(f"s3://{bucket}/store")
    heard: list[WatchReport] = []
    with rows(root, ASKED) as made:
        yield Counted(
            bucket,
            Desk(
                prefix=f"s3://{bucket}/",
                root=root,
                ladder=ladder(ASKED, 3),
                models={},
                select=Selection(suffixes=[".mp4"]),
                in_flight=2,
                shedding=Shedding(6.0, 3, 2, time.monotonic),
                rows=made,
                context=Context(),
                heard=heard.append,
                say=logging.getLogger("test"),
            ),
            heard,
        )


def test_an_older_version_loses_against_a_newer_one(desk: Counted) -> None:
    desk.put("a.mp4", b"1")
    assert desk.tell("a.mp4", sequencer="0A") == "taken"
    desk.put("a.mp4", b"2")
    assert desk.tell("a.mp4", sequencer="0C") == "taken", "another version of it"
    assert desk.tell("a.mp4", sequencer="0B") == "older"
    assert desk.tell("a.mp4", sequencer="0A") == "older"
    assert desk.tell("a.mp4", sequencer="0C0") == "duplicate"
    assert desk.tell("a.mp4") == "duplicate", "without a sequencer, by what is in the bucket"
    assert desk.tell("a.mp4", sequencer="0D", eTag="gone long since") == "duplicate"
    assert desk.desk.waiting == 2


def test_what_came_late_tells_of_the_version_that_is_there(desk: Counted) -> None:
    desk.put("late.mp4", b"1")
    desk.put("late.mp4", b"2")
    assert desk.tell("late.mp4", sequencer="0A", eTag="of 1") == "taken"
    assert desk.tell("late.mp4", sequencer="0B") == "duplicate"


def test_what_is_not_meant_is_let_go(desk: Counted) -> None:
    desk.put("notes.txt")
    desk.put("store/media/0123456789abcdef0123456789abcdef/x.mp4")
    desk.put("folder.mp4/", b"")
    assert desk.tell("notes.txt") == "left out"
    assert desk.tell("store/media/0123456789abcdef0123456789abcdef/x.mp4") == "left out", "our own"
    assert desk.tell("folder.mp4/") == "left out"
    assert desk.tell("nowhere.mp4") == "gone"
    assert desk.desk.idle
    assert desk.desk.counts == {"left out": 3, "gone": 1}


def test_a_key_is_what_the_bucket_has(desk: Counted) -> None:
    desk.put("a b.mp4")
    desk.put("c+d.mp4")
    assert desk.tell(quote_plus("a b.mp4")) == "taken"
    assert desk.tell("c+d.mp4") == "taken", "a store that does not encode"
    assert {job.found.name for _, _, job in desk.desk._queue.queue if job} == {"a b.mp4", "c+d.mp4"}


def test_many_that_tell_of_it_at_once_make_one_run(desk: Counted) -> None:
    desk.put("once.mp4")
    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(lambda _: desk.tell("once.mp4"), range(16)))
    assert outcomes == {"taken": 1, "duplicate": 15}
    assert desk.desk.waiting == 1


def test_what_the_store_tells_of_goes_before_what_a_sweep_finds(desk: Counted) -> None:
    for name in ("1.mp4", "2.mp4", "3.mp4"):
        desk.put(name)
    assert desk.sweep() == ["taken"] * 3
    assert desk.desk._waiting == [0, 3]
    assert desk.tell("3.mp4") == "duplicate"
    assert (desk.desk._waiting, desk.desk.swept_waiting) == ([1, 2], 2)
    lane, _, job = desk.desk._queue.get()
    assert job
    assert (lane, job.found.name) == (EVENTS, "3.mp4")
    assert desk.desk._queue.get()[0] == SWEEP
    assert desk.sweep() == ["duplicate"] * 3


def test_what_could_not_be_taken_is_taken_the_next_time(desk: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put("again.mp4")

    def fail(*_: object) -> None:
        raise NetworkError("The API is away.")

    with monkeypatch.context() as patch:
        patch.setattr(desk.desk.rows, "make", fail)
        with pytest.raises(NetworkError):
            desk.tell("again.mp4", sequencer="0A")
    assert desk.desk.idle
    assert desk.tell("again.mp4", sequencer="0A") == "taken"


def test_those_that_come_when_much_waits_are_sampled_less(desk: Counted) -> None:
    def take(name: str) -> float:
        desk.put(name)
        desk.tell(name)
        [job] = [job for _, _, job in desk.desk._queue.queue if job and job.found.name == name]
        return job.options.frames.fps

    taken: Callable[[int], float] = lambda number: take(f"{number}.mp4")  # noqa: E731
    rates = [taken(number) for number in range(15)]
    assert rates == [2.0] * 7 + [1.0] * 5 + [0.5] * 3, "2 s for each, two at a time, at most 6 s"


def test_how_it_is_is_said_and_kept(desk: Counted) -> None:
    for number in range(3):
        desk.put(f"{number}.mp4")
        desk.tell(f"{number}.mp4")
    desk.tell("nowhere.mp4")
    watchman = Watchman(desk.desk, None, None)
    well, figures = watchman.health()
    assert well
    assert figures["waiting"] == 3
    assert figures["counts"] == {"gone": 1, "taken": 3}
    assert "cameras" not in figures, "whoever reaches the port may read it"
    watchman.write(now=True)
    [kept] = read_all(desk.desk.root)
    assert (kept.prefix, kept.waiting, kept.ended) == (f"s3://{desk.bucket}/", 3, False)
    assert "running; 0 in work, 3 wait (about 3 s)" in next(kept.lines())
    assert not list(read_all(desk.desk.root, lambda prefix: "another" in prefix))
    desk.desk.last_end -= STALLED_S
    assert not watchman.health()[0], "it has work, and nothing goes through"
    old = kept.model_copy(update={"at": datetime(2026, 1, 1, tzinfo=UTC)})
    assert "SILENT for" in next(old.lines())
    less = kept.model_copy(update={"level": 1, "sample_fps": 1.0, "healthy": False})
    assert "NOT HEALTHY" in next(less.lines())
    assert "sampling 1 frames/s instead of 2" in next(less.lines())
