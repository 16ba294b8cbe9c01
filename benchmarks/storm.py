"""A backfill through failures, compared with an undisturbed one: same results, byte for byte apart from times.

Real parts, each a process on loopback: S3 (moto) behind a proxy that fails 10% of requests (500, 503, reset, 5 s
stall), a Prefect server, a Dask scheduler with two workers. While `python -m flows backfill` runs, a worker is killed
at random intervals, the server is restarted once, and the backfill is killed once and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks._corpus import make_corpus
from benchmarks._results import Table, parser, publish
from benchmarks._stack import BUCKET, Stack
from tasks.store import Store

OPTIONS = ["transcript.model=bundled", "detections.weights=bundled", "detections.image_size=320"]
MOST_STARTS = 6
"""Backfills that are started, one after the other, until none fails."""


def main(argv: Sequence[str]) -> None:
    """Runs the calm and the rough backfill, compares the stores, and prints what happened."""
    options = parser("storm", __doc__)
    options.add_argument("--objects", type=int, default=300, help="objects in the bucket")
    options.add_argument("--rate", type=float, default=0.1, help="share of S3 requests that fail")
    options.add_argument("--stall", type=float, default=5.0, help="seconds that a stalled request takes")
    options.add_argument("--kill-every", type=float, default=20.0, help="mean seconds between two killed workers")
    options.add_argument("--seed", type=int, default=1)
    arguments = options.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        for row in run(stack, arguments):
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append({name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()})
    publish(arguments, "storm", __doc__, [Table(f"{arguments.objects} objects", rows)])


def run(stack: Stack, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields what each backfill came to. Raises AssertionError where the rough store is not the calm one."""
    corpus = list(make_corpus(arguments.objects, arguments.seed))
    client = stack.client()
    client.create_bucket(Bucket=BUCKET)
    for found in corpus:
        client.put_object(Bucket=BUCKET, Key=f"in/{found.key}", Body=found.data)

    status, seconds = stack.backfill("calm", stack.s3, OPTIONS)
    assert status in (0, 3), stack.tail("calm")
    calm = Contents(stack, "calm")
    yield {"run": "calm", "objects": len(corpus), "seconds": round(seconds, 1), **check(calm, corpus)}
    status, again = stack.backfill("calm", stack.s3, OPTIONS)
    assert status in (0, 3), stack.tail("calm")
    yield {"run": "calm, again", "seconds": round(again, 1), "share of the first": round(again / seconds, 3)}

    proxy = stack.proxy(arguments.rate, arguments.stall, arguments.seed)
    storm = Storm(stack, "rough", arguments.kill_every, len(calm.results), random.Random(arguments.seed))
    started = time.monotonic()
    with storm:
        starts, status = 0, 1
        while status not in (0, 3) and starts < MOST_STARTS:
            status, _ = stack.backfill("rough", proxy, OPTIONS)
            starts += 1
    assert status in (0, 3), stack.tail("rough")
    rough = Contents(stack, "rough")
    yield {
        "run": "rough",
        "seconds": round(time.monotonic() - started, 1),
        "backfills started": starts,
        **storm.did,
        "S3 faults": httpx.get(f"{proxy}/-/counts").json(),
        **check(rough, corpus),
    }
    differences = calm.differences(rough)
    assert not differences, f"{len(differences)} objects differ: {differences[:10]}"
    yield {"compared": len(calm.files), "differences": 0}


def check(contents: Contents, corpus: list[Any]) -> dict[str, int]:
    """Every good content has one result, every bad one a reason, and the tables have the results' rows."""
    good = {f.data for f in corpus if f.kind != "broken"}
    bad = {f.data or f.key for f in corpus if f.kind == "broken"}
    assert len(contents.results) == len(good), f"{len(contents.results)} results of {len(good)} contents"
    assert contents.quarantined == len(bad), f"{contents.quarantined} set aside of {len(bad)}"
    expected: Counter[str] = Counter()
    for result in contents.results.values():
        expected["transcripts"] += len(result["transcript"]["segments"])
        expected["detections"] += sum(len(frame["boxes"]) for frame in result["detections"]["frames"])
    rows = {name: contents.rows[name] for name in ("transcripts", "detections")}
    assert rows == dict(expected), f"tables have {rows}, results {dict(expected)}"
    return {"results": len(good), "quarantined": len(bad), **rows}


class Contents:
    """What a store holds, without what differs between two runs of the same: times, cost, the store's own name."""

    def __init__(self, stack: Stack, name: str) -> None:
        import pandas as pd

        self.results: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.rows: Counter[str] = Counter()
        self.quarantined = 0
        store = stack.store(name)
        sources = _same_sources(store)
        for path in store.list(""):
            last = path.rsplit("/", 1)[-1]
            if last in ("artifact.json", "views.json", "report.html", "lease.json") or path.startswith("tables/runs/"):
                assert last != "lease.json", f"{path} was left behind"
                continue
            found = store.read(path)
            assert found is not None, path
            data = found[0].replace(store.root.encode(), b"STORE")
            if last == "result.json":
                record = json.loads(data)
                for name_ in ("timing", "cost", "created"):
                    del record[name_]
                record["source"] = sources[record["media_id"]]
                self.results[record["media_id"]] = record
                data = json.dumps(record).encode()
            elif path.startswith("quarantine/"):
                self.quarantined += 1
                record = json.loads(data)
                del record["created"], record["detail"]
                record["source"] = sources[record["media_id"]]
                data = json.dumps(record).encode().replace(record["message"].partition(":")[0].encode(), b"")
            elif path.startswith("tables/"):
                self.rows[path.split("/")[1]] += len(pd.read_parquet(store.local(path)))
            self.files[path] = hashlib.sha256(data).hexdigest()

    def differences(self, other: Contents) -> list[str]:
        """Paths that one of the two lacks or has otherwise."""
        return sorted(p for p in self.files.keys() | other.files.keys() if self.files.get(p) != other.files.get(p))


def _same_sources(store: Store) -> dict[str, str]:
    """One name for each content: which of two equal objects came first is a matter of time."""
    names: dict[str, str] = {}
    for path in store.list("sources"):
        found = store.read(path)
        assert found is not None
        record = json.loads(found[0])
        names[record["media_id"]] = min(names.get(record["media_id"], record["source"]), record["source"])
    return names


class Storm:
    """Kills workers at random, restarts the server once and kills the backfill once, while the block runs."""

    def __init__(self, stack: Stack, name: str, kill_every_s: float, expected: int, choose: random.Random) -> None:
        self.did: Counter[str] = Counter()
        self._stack, self._name, self._every, self._expected = stack, name, kill_every_s, expected
        self._random = choose
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._blow, daemon=True)

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _blow(self) -> None:
        next_kill = time.monotonic() + self._every
        while not self._ended.wait(1.0):
            done = sum(path.endswith("/result.json") for path in self._stack.store(self._name).list("media"))
            if not self.did["server restarts"] and done > self._expected * 0.25:
                self._stack.restart_server()
                self.did["server restarts"] += 1
            if not self.did["backfills killed"] and done > self._expected * 0.5:
                self._stack.kill_backfill()
                self.did["backfills killed"] += 1
            self.did["workers started by the supervisor"] += self._stack.supervise()
            if time.monotonic() > next_kill:
                self.did["workers killed"] += self._stack.kill_worker(self._random)
                next_kill = time.monotonic() + self._every * self._random.uniform(0.5, 1.5)
