"""A backfill through failures, compared with an undisturbed one: same results, byte for byte apart from times.

Real parts, each a process on loopback: S3 (moto) behind a proxy that fails 10% of requests (500, 503, reset, 5 s
stall), a Prefect server, a Dask scheduler with two workers. While `python -m flows backfill` runs, a worker is killed
at random intervals, the server is restarted once, and the backfill is killed once and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks._corpus import make_corpus
from tasks.store import Store, open_store

OPTIONS = ["transcript.model=bundled", "detections.weights=bundled", "detections.image_size=320"]
BUCKET = "storm"
WORKERS = 2
MOST_STARTS = 6
"""Backfills that are started, one after the other, until none fails."""


def main(argv: Sequence[str]) -> None:
    """Runs the calm and the rough backfill, compares the stores, and prints what happened as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks storm", description=__doc__)
    parser.add_argument("--objects", type=int, default=300, help="objects in the bucket")
    parser.add_argument("--rate", type=float, default=0.1, help="share of S3 requests that fail")
    parser.add_argument("--stall", type=float, default=5.0, help="seconds that a stalled request takes")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds between two killed workers, on average")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        for row in run(stack, arguments):
            print(json.dumps(row), flush=True)


def run(stack: Stack, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields what each backfill came to. Raises AssertionError where the rough store is not the calm one."""
    corpus = list(make_corpus(arguments.objects, arguments.seed))
    client = stack.client()
    client.create_bucket(Bucket=BUCKET)
    for found in corpus:
        client.put_object(Bucket=BUCKET, Key=f"in/{found.key}", Body=found.data)

    status, seconds = stack.backfill("calm", stack.s3)
    assert status in (0, 3), stack.tail("calm")
    calm = Contents(stack, "calm")
    yield {"run": "calm", "objects": len(corpus), "seconds": round(seconds, 1), **check(calm, corpus)}
    status, again = stack.backfill("calm", stack.s3)
    assert status in (0, 3), stack.tail("calm")
    yield {"run": "calm, again", "seconds": round(again, 1), "share of the first": round(again / seconds, 3)}

    proxy = stack.proxy(arguments.rate, arguments.stall, arguments.seed)
    storm = Storm(stack, "rough", arguments.kill_every, len(calm.results), random.Random(arguments.seed))
    started = time.monotonic()
    with storm:
        starts, status = 0, 1
        while status not in (0, 3) and starts < MOST_STARTS:
            status, _ = stack.backfill("rough", proxy)
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


class Stack:
    """The processes; every one is ended with the block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._exit = ExitStack()
        self._backfill: subprocess.Popen[bytes] | None = None
        self._workers_s3 = ""

    def __enter__(self) -> Stack:
        self._exit.callback(self._end)
        port = _free_port()
        self.s3 = f"http://127.0.0.1:{port}"
        self._workers_s3 = self.s3
        self._start("s3", [_script("moto_server"), "-H", "127.0.0.1", "-p", str(port)])
        self._server_port = _free_port()
        self._prefect = self._start_server()
        self._start("scheduler", [_script("dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"])
        self.dask = self._wait("scheduler", r"Scheduler at:\s+(tcp://\S+)")
        self._hosts = [self._start_worker() for _ in range(WORKERS)]
        _answers(f"{self.s3}/moto-api/")
        return self

    def __exit__(self, *_: Any) -> None:
        self._exit.close()

    def client(self) -> Any:
        import boto3

        return boto3.client("s3", **self._credentials(), endpoint_url=self.s3)

    def store(self, name: str) -> Store:
        """A store seen past the proxy."""
        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        for key, value in self._credentials().items():
            os.environ[names.get(key, "AWS_DEFAULT_REGION")] = value
        os.environ["AWS_ENDPOINT_URL"] = self.s3
        return open_store(f"s3://{BUCKET}/{name}")

    def proxy(self, rate: float, stall_s: float, seed: int) -> str:
        """Address of a proxy that fails now and then."""
        port = _free_port()
        flags = ["--upstream", self.s3, "--port", str(port), "--rate", str(rate), "--stall", str(stall_s)]
        self._start("proxy", [sys.executable, "-m", "tests.fault_proxy", *flags, "--seed", str(seed)])
        _answers(f"http://127.0.0.1:{port}/-/counts")
        self._workers_s3 = f"http://127.0.0.1:{port}"
        for host in self._hosts:
            host.terminate()
            host.wait()
        self.supervise()
        return f"http://127.0.0.1:{port}"

    def backfill(self, name: str, s3: str) -> tuple[int, float]:
        """Exit status and seconds of one `python -m flows backfill`."""
        command = [sys.executable, "-m", "flows", "backfill", f"s3://{BUCKET}/in/", "--store", f"s3://{BUCKET}/{name}"]
        command += [word for option in OPTIONS for word in ("--set", option)]
        started = time.monotonic()
        environment = {
            "AWS_ENDPOINT_URL": s3,
            "PREFECT_API_URL": f"http://127.0.0.1:{self._server_port}/api",
            "REELFLOW_DASK_ADDRESS": self.dask,
            "REELFLOW_WORKER_WAIT_S": "120",
        }
        self._backfill = self._start(name, command, environment)
        return self._backfill.wait(), time.monotonic() - started

    def kill_backfill(self) -> None:
        if self._backfill:
            self._backfill.kill()

    def kill_worker(self, choose: random.Random) -> int:
        """Kills one worker process (its nanny starts another); how many were killed."""
        pids = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if _parent(entry) in {host.pid for host in self._hosts} and b"spawn_main" in _command(entry)
        ]
        if not pids:
            return 0
        os.kill(choose.choice(pids), signal.SIGKILL)
        return 1

    def supervise(self) -> int:
        """Starts workers again whose nanny has given up, as a service manager does; how many."""
        ended = [number for number, host in enumerate(self._hosts) if host.poll() is not None]
        for number in ended:
            self._hosts[number] = self._start_worker()
        return len(ended)

    def restart_server(self) -> None:
        self._prefect.terminate()
        self._prefect.wait()
        self._prefect = self._start_server()

    def tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        flags = ["--nthreads", "1", "--no-dashboard", "--preload", "tasks.preload", "--resources", "CPU=1 GPU=1"]
        command = [_script("dask"), "worker", self.dask, *flags]
        return self._start("workers", command, {"AWS_ENDPOINT_URL": self._workers_s3})

    def _start_server(self) -> subprocess.Popen[bytes]:
        process = self._start("server", [sys.executable, "-m", "flows.embedded_server", str(self._server_port)])
        _answers(f"http://127.0.0.1:{self._server_port}/api/health")
        return process

    def _start(self, name: str, command: list[str], more: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_", "DASK_"))}
        environment |= {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": getattr(self, "s3", ""),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "REELFLOW_CACHE_DIR": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            **(more or {}),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._processes.append(process)
        return process

    def _wait(self, name: str, pattern: str, timeout_s: float = 120.0) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.tail(name)):
                return found.group(1)
            time.sleep(0.1)
        raise AssertionError(f"{name} did not start: {self.tail(name)}")

    def _end(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def _credentials() -> dict[str, str]:
        return {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


def _answers(url: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
