"""A watcher in a burst of events, and as cameras write windows: each object once, and how late its result is.

S3 and SQS (moto) are a process of their own; the watcher is `python -m flows watch` with everything it starts. The
burst waits in the queue when the watcher starts: a tenth of the objects have no event, a third of the events come
twice, some messages are no events. The cameras put windows of 3 s (360p, cut from a real video) as time passes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import boto3
import ffmpeg
import imageio_ffmpeg

from benchmarks._corpus import tiny
from benchmarks._media import test_media, yolo_weights
from benchmarks._results import Table, median, parser, percentile, publish
from benchmarks._s3_server import s3_server
from tasks.store import open_store

BUCKET: Final = "watched"
PREFIX: Final = f"s3://{BUCKET}/recordings/"
STORE: Final = f"s3://{BUCKET}/store"
WINDOW_S: Final = 3.0
LOST, DOUBLE, MALFORMED = 0.1, 1 / 3, 0.05
STAGES: Final = ("upload_s", "queue_s", "analysis_s", "commit_s")


def main(argv: Sequence[str]) -> None:
    """Runs the burst and the cameras, checks that every object is settled once, and prints the figures."""
    options = parser("watch", __doc__)
    options.add_argument("--messages", type=int, default=500, help="of the burst; 0: no burst")
    options.add_argument("--cameras", type=int, nargs="*", default=[1, 2, 4, 8], help="how many write at a time")
    options.add_argument("--windows", type=int, default=20, help="of each camera")
    options.add_argument("--levels", type=int, default=3, help="of sampling less; 1: never")
    arguments = options.parse_args(argv)
    tables = []
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder), BUCKET) as client:
        queue, dead = _queues(client)
        if arguments.messages:
            row = burst(client, queue, dead, Path(folder), arguments.messages)
            tables.append(Table(f"A burst of {arguments.messages} messages", [row]))
        if arguments.cameras:
            rows = list(live(client, queue, Path(folder), arguments))
            tables.append(Table(f"Cameras that write windows of {WINDOW_S:g} s, 2 frames/s, YOLO11n", rows))
    publish(arguments, "watch", __doc__, tables)


def burst(client: Any, queue: str, dead: str, folder: Path, messages: int) -> dict[str, Any]:
    """What a watcher made of a burst. Raises AssertionError where an object was not settled exactly once."""
    choose = random.Random(1)
    malformed = round(MALFORMED * messages)
    objects = round((messages - malformed) / (1 + DOUBLE) / (1 - LOST))
    keys = [f"recordings/camera=c{n % 8}/{n:05d} a+b.mp4" for n in range(objects)]
    for number, key in enumerate(keys):
        client.put_object(Bucket=BUCKET, Key=key, Body=tiny(number))
    told = keys[round(LOST * objects) :]
    bodies = [_event(key) for key in [*told, *choose.sample(told, round(DOUBLE * len(told)))]]
    bodies += [f'{{"no": "event", "number": {n}}}' for n in range(malformed)]
    choose.shuffle(bodies)
    sqs = boto3.client("sqs")
    for at in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    quick = ["detections.weights=bundled", "detections.image_size=320", "transcript.enabled=false"]
    quick += ["embeddings.enabled=false", "scenes.shots=false"]
    started = time.monotonic()
    with _watcher(queue, folder / "burst", quick, "--until-empty", "--behind", "600") as process:
        status = process.wait()
    seconds = time.monotonic() - started
    lines = _lines(folder / "burst")
    assert status == 3, (folder / "burst.log").read_text()[-3000:]
    assert Counter(line["source"] for line in lines) == Counter(f"s3://{BUCKET}/{key}" for key in keys)
    assert {line["status"] for line in lines} <= {"done", "cached"}
    attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=attributes)["Attributes"]
    assert {int(value) for value in left.values()} == {0}
    buried = int(sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=attributes)["Attributes"][attributes[0]])
    assert buried == malformed
    counts = _counts()
    runs = [_seconds(line["started"], line["committed"]) for line in lines if line["started"]]
    return {
        "messages": len(bodies),
        "objects": objects,
        "without event": counts["taken by sweep"],
        "duplicates": counts.get("duplicate", 0),
        "dead letters": buried,
        "seconds": round(seconds, 1),
        "objects/s": round(objects / (_last(lines) - _first(lines)), 2),
        "run to commit s, median": round(median(runs), 2),
        "95%": round(percentile(runs, 0.95), 2),
    }


def live(client: Any, queue: str, folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lags with each number of cameras. Raises AssertionError where a window has no result."""
    windows = _windows(folder, arguments.windows)
    sets = [f"detections.weights={yolo_weights()}", "frames.fps=2", "transcript.enabled=false"]
    sets += ["embeddings.enabled=false"]
    for cameras in arguments.cameras:
        name = folder / f"live-{cameras}"
        with _watcher(queue, name, sets, "--levels", str(arguments.levels), "--sweep", "600") as process:
            _put(client, queue, f"recordings/camera=warm{cameras}/w.mp4", _unique(windows[0], f"warm {cameras}"))
            _until(name, 1, process)
            usage, started = _cpu_s(process.pid), time.monotonic()
            count = 0
            for number in range(arguments.windows):
                for camera in range(cameras):
                    due = started + WINDOW_S * (number + camera / cameras)
                    time.sleep(max(0.0, due - time.monotonic()))
                    now = datetime.now(UTC)
                    stamp = datetime.fromtimestamp(now.timestamp() - WINDOW_S, UTC)
                    moment = f"{stamp:%Y%m%dT%H%M%S}.{stamp.microsecond // 1000:03d}Z-{number}"
                    key = f"recordings/camera={cameras}-{camera}/{moment}.mp4"
                    _put(client, queue, key, _unique(windows[number], f"{cameras}-{camera}-{number}"), now)
                    count += 1
            lines = _until(name, count + 1, process)[1:]
            usage = _cpu_s(process.pid) - usage
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0
        assert {line["status"] for line in lines} == {"done"}, lines
        lags = _lags({line["media_id"] for line in lines})
        totals = [lag["total_s"] for lag in lags]
        yield {
            "cameras": cameras,
            "windows": count,
            "put to commit s, median": round(median(totals), 2),
            "95%": round(percentile(totals, 0.95), 2),
            **{stage: round(median([lag[stage] for lag in lags]), 2) for stage in STAGES},
            "sampled less": sum(lag["level"] > 0 for lag in lags),
            "CPU s per window": round(usage / count, 2),
            "load": round(os.getloadavg()[0], 1),
        }


def _queues(client: Any) -> tuple[str, str]:
    sqs = boto3.client("sqs")
    dead = str(sqs.create_queue(QueueName="dead")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "60"}
    return str(sqs.create_queue(QueueName="live", Attributes=attributes)["QueueUrl"]), dead


def _event(key: str, moment: datetime | None = None) -> str:
    record: dict[str, Any] = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    record["s3"] = {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key, safe="/")}}
    if moment:
        record["eventTime"] = moment.isoformat()
    return json.dumps({"Records": [record]})


def _put(client: Any, queue: str, key: str, data: bytes, moment: datetime | None = None) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=data)
    boto3.client("sqs").send_message(QueueUrl=queue, MessageBody=_event(key, moment or datetime.now(UTC)))


def _unique(video: bytes, text: str) -> bytes:
    """The same pictures in other bytes: an MP4 box at the end that says nothing."""
    return video + struct.pack(">I4s", 8 + len(text), b"free") + text.encode()


def _windows(folder: Path, count: int) -> list[bytes]:
    """Windows of a real video, 640x360, H.264."""
    video = test_media() / "video" / "one-by-one-person-detection.mp4"
    made = []
    for number in range(count):
        out = folder / f"window-{number}.mp4"
        start = ffmpeg.input(str(video), ss=(number * WINDOW_S) % 30, t=WINDOW_S)
        encoded = ffmpeg.output(start.video, str(out), vf="scale=640:360", vcodec="libx264", preset="veryfast", g=30)
        encoded.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True, overwrite_output=True)
        made.append(out.read_bytes())
    return made


@contextmanager
def _watcher(queue: str, name: Path, sets: Sequence[str], *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flows", "watch", PREFIX, "--queue", queue, "--store", STORE, "--json", *more]
    command += [word for each in sets for word in ("--set", each)]
    home = {"PREFECT_HOME": str(name.with_suffix(".prefect")), "PREFECT_API_URL": ""}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | home
    with name.with_suffix(".jsonl").open("wb") as out, name.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _lines(name: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in name.with_suffix(".jsonl").read_text().splitlines()]


def _until(name: Path, count: int, process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    while len(found := _lines(name)) < count:
        assert process.poll() is None, name.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.1)
    return found


def _counts() -> dict[str, int]:
    store = open_store(STORE)
    [path] = store.list("watchers")
    found = store.read(path)
    assert found
    return dict(json.loads(found[0])["counts"])


def _lags(media: set[str]) -> list[dict[str, Any]]:
    import pandas as pd

    store = open_store(STORE)
    paths = [f"tables/lags/media_id={media_id}/part.parquet" for media_id in media]
    return [dict(row) for path in paths for _, row in pd.read_parquet(store.local(path)).iterrows()]


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and all that it has started and that still runs."""
    import psutil

    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _first(lines: list[dict[str, Any]]) -> float:
    return min(datetime.fromisoformat(line["received"]).timestamp() for line in lines)


def _last(lines: list[dict[str, Any]]) -> float:
    return max(datetime.fromisoformat(line["committed"]).timestamp() for line in lines)
