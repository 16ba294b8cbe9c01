"""`python -m flows watch` on a bucket whose events come twice, late, broken, encoded in many ways, or not at all."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote_plus

import pandas as pd
import pytest

from benchmarks._corpus import make_corpus
from tasks.records.results import read_result
from tasks.store import Store, open_store
from tests.flows.test_command_line import flows
from tests.flows.watch.bucket import PREFIX, WatchedBucket, watching
from tests.prefect_home import new_prefect_home

COUNT = 12
LOST = 2
MALFORMED = ("not JSON", '{"hello": "world"}', "[]", '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]}')


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_prefect_home(tmp_path_factory)


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))


class Burst:
    """A burst of notifications, and what the watcher made of them."""

    def __init__(self, environment: dict[str, str], home: Path) -> None:
        self.bucket = WatchedBucket("burst", environment, notifies=False)
        self.kinds: dict[str, str] = {}
        told: list[str] = []
        corpus = list(make_corpus(COUNT))
        for number, found in enumerate(corpus):
            key = f"{PREFIX}camera=gate/{found.key}"
            self.kinds[self.bucket.put(key, found.data)] = found.kind
            if number >= LOST:
                event = self.bucket.event(quote_plus(key, safe="/"), size=len(found.data))
                told += [event, event] if number % 3 == 0 else [event]
        sns = {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": told[0]}
        test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "burst"}
        told += [json.dumps(sns), json.dumps(test), self.bucket.event("elsewhere/x.mp4"), *MALFORMED]
        told += [self.bucket.event(f"{PREFIX}gone.mp4"), self.bucket.event(f"{PREFIX}camera=gate/")]
        self.bucket.put(f"{PREFIX}camera=gate/", b"")
        half_bad = json.loads(self.bucket.event(f"{PREFIX}also-gone.mp4"))
        half_bad["Records"].append({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "burst"}}})
        self.bucket.tell(*told, json.dumps(half_bad))
        with watching(self.bucket, home, "--until-empty", "--sweep", "600") as watcher:
            self.status = watcher.process.wait(timeout=240)
            self.log = watcher.log
            self.lines = watcher.lines()
        assert self.status == 3, self.log[-3000:]

    @property
    def store(self) -> Store:
        return open_store("s3://burst/store")

    def counts(self) -> dict[str, int]:
        [path] = self.store.list("watchers")
        found = self.store.read(path)
        assert found
        return dict(json.loads(found[0])["counts"])


@pytest.fixture(scope="module")
def burst(s3_environment: dict[str, str], home: Path) -> Burst:
    return Burst(s3_environment, home)


def test_every_object_is_settled_once_also_those_that_no_event_told_of(burst: Burst, s3: None) -> None:
    assert Counter(line["source"] for line in burst.lines) == Counter(list(burst.kinds))
    for line in burst.lines:
        wanted = {"quarantined"} if burst.kinds[line["source"]] == "broken" else {"done", "cached"}
        assert line["status"] in wanted, line
        assert line["put"] <= line["received"] or line["put"][:19] == line["received"][:19], "S3 tells whole seconds"
    counts = burst.counts()
    assert counts["taken by sweep"] == LOST
    assert counts["gone"] == 2
    assert counts["elsewhere"] == 1
    assert counts["test"] == 1
    assert counts["duplicate"] + counts.get("settled", 0) == sum(n % 3 == 0 for n in range(LOST, COUNT)) + 1
    results = [path for path in burst.store.list("media") if path.endswith("/result.json")]
    assert len(results) == sum(line["status"] == "done" for line in burst.lines)


def test_what_says_nothing_goes_to_the_dead_letters_with_its_reason(burst: Burst, s3: None) -> None:
    letters = {body: reason for reason, body in burst.bucket.dead_letters()}
    assert letters.pop("not JSON") == "not JSON"
    assert "no notification" in letters.pop('{"hello": "world"}')
    assert "list" in letters.pop("[]")
    reasons = sorted(letters.values())
    assert reasons == ["a record without bucket", "a record without object"]
    assert burst.bucket.left() == 0


def test_each_result_has_a_row_of_lags(burst: Burst, s3: None) -> None:
    done = {line["media_id"]: line for line in burst.lines if line["status"] == "done"}
    rows = pd.concat(pd.read_parquet(burst.store.local(path)) for path in burst.store.list("tables/lags"))
    assert set(rows["media_id"]) == set(done)
    assert set(rows["camera"]) == {"gate"}
    assert (rows["total_s"] >= rows["analysis_s"]).all()
    assert set(rows["origin"]) <= {"aws:s3", "sweep"}


def test_its_runs_are_made_once_and_are_over(burst: Burst, s3: None, home: Path) -> None:
    import sqlite3

    with sqlite3.connect(home / "prefect.db") as database:
        rows = database.execute(
            "select idempotency_key, state_type, parameters from flow_run where idempotency_key is not null"
        ).fetchall()
    assert len(rows) == len(burst.kinds) == len({key for key, _, _ in rows})
    assert {state for _, state, _ in rows} <= {"COMPLETED", "FAILED"}
    assert Counter(json.loads(parameters)["source"] for _, _, parameters in rows) == Counter(list(burst.kinds))


def test_it_says_how_it_was(burst: Burst, home: Path, s3_environment: dict[str, str]) -> None:
    asked = ("watch", f"s3://burst/{PREFIX}", "--store", "s3://burst/store", "--status")
    shown = flows(*asked, home=home, environment=s3_environment)
    assert (shown.returncode, "ended; 0 in work, 0 wait" in shown.stdout) == (0, True), shown.stderr
    assert "gate: " in shown.stdout
    elsewhere = flows(*asked[:1], "s3://burst/elsewhere/", *asked[2:], home=home, environment=s3_environment)
    assert elsewhere.returncode == 1
    assert "No watcher of s3://burst/elsewhere/" in elsewhere.stderr


def test_a_watcher_that_is_killed_is_followed_and_one_that_is_behind_samples_less(
    s3: None, home: Path, s3_environment: dict[str, str]
) -> None:
    bucket = WatchedBucket("live", s3_environment, notifies=True)
    videos = [found.data for found in make_corpus(16, seed=2) if found.kind == "video"][:6]
    arguments = ("--behind", "0.5", "--levels", "2", "--set", "frames.fps=2")
    with watching(bucket, home, *arguments, name="killed") as watcher:
        first = bucket.put(f"{PREFIX}camera=a b/20261121T140500.250Z-1.mp4", videos[0])
        [line] = watcher.until(1)
        assert (line["source"], line["status"]) == (first, "done"), (
            "the store encodes the key, S3's test event is no fault"
        )
        assert line["put"] <= line["started"] <= line["committed"]
        sources = [
            bucket.put(f"{PREFIX}camera=c/2026112{n}T140500Z-{n}.mp4", data) for n, data in enumerate(videos[1:])
        ]
        watcher.until(3)
        watcher.end(signal.SIGKILL)
        told = watcher.lines()
        assert "Behind:" in watcher.log
        assert "sampled at 1 frames/s instead of 2" in watcher.log
    with watching(bucket, home, *arguments, "--until-empty", name="follower") as watcher:
        assert watcher.process.wait(timeout=240) == 0, watcher.log[-3000:]
        told += watcher.lines()
    assert max(Counter(line["source"] for line in told if line["started"]).values()) == 1
    assert bucket.left(bucket.dead) == 0
    store = open_store("s3://live/store")
    results = [read_result(store, path.split("/")[1]) for path in store.list("media") if path.endswith("/result.json")]
    assert sorted(found[0].source for found in results if found) == sorted([first, *sources])
    rows = pd.concat(pd.read_parquet(store.local(path)) for path in store.list("tables/lags")).set_index("source")
    assert rows.loc[first, "recorded"] == pd.Timestamp("2026-11-21T14:05:00.25Z")
    assert rows["sample_fps"].isin([1.0, 2.0]).all()
    assert (rows["sample_fps"] == 1.0).any()
    for source, row in rows.iterrows():
        found = read_result(store, str(row["media_id"]))
        assert found, source
        assert found[0].options["frames"]["fps"] == row["sample_fps"] == 2.0 / 2 ** row["level"]
    with watching(bucket, home, *arguments, name="idle") as watcher:
        bucket.tell(bucket.event(quote_plus(first.removeprefix("s3://live/"))))
        [known] = watcher.until(1)[:1]
        assert (known["source"], known["status"], known["started"]) == (first, "cached", None), "nothing is run"
        bucket.put(f"{PREFIX}last.mp4", b"no media")
        deadline = time.monotonic() + 120
        while not any(line["started"] for line in watcher.lines()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert watcher.end() == 3, "SIGTERM ends it in order"
        again = [line["source"] for line in watcher.lines() if line["started"]]
        assert again == [f"s3://live/{PREFIX}last.mp4"], (
            "what was sampled less is settled, also where a message of the killed one comes again"
        )
