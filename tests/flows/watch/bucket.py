"""A bucket whose notifications go to a queue with a queue of dead letters, on a real S3 and SQS server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from tests.prefect_home import environment_of
from tests.source_tree import ROOT

PREFIX = "recordings/"

QUICK = (
    *("--set", "transcript.enabled=false", "--set", "embeddings.enabled=false", "--set", "scenes.shots=false"),
    *("--set", "detections.weights=bundled", "--set", "detections.image_size=320"),
)


class WatchedBucket:
    """`put` writes an object, `tell` sends what a store would have sent."""

    def __init__(self, name: str, environment: Mapping[str, str], *, notifies: bool) -> None:
        self.name = name
        self.environment = dict(environment)
        session = boto3.session.Session(
            environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
        )
        self.s3 = session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
        self.sqs = session.client("sqs", endpoint_url=environment["AWS_ENDPOINT_URL"])
        self.s3.create_bucket(Bucket=name)
        self.dead = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self._arn(self.dead)
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
        self.queue = self.sqs.create_queue(
            QueueName=name, Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "30"}
        )["QueueUrl"]
        if notifies:
            events = {"QueueArn": self._arn(self.queue), "Events": ["s3:ObjectCreated:*"]}
            self.s3.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration={"QueueConfigurations": [events]}
            )

    def _arn(self, queue: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def put(self, key: str, data: bytes) -> str:
        """Writes an object and returns its URI."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=data)
        return f"s3://{self.name}/{key}"

    def tell(self, *bodies: str) -> None:
        """Sends messages to the queue."""
        for at in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries).get("Failed")

    def event(self, key: str, **fields: Any) -> str:
        """The notification of a written object, as S3 sends it; `fields` are those of its object."""
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": self.name}, "object": {"key": key, **fields}},
        }
        return json.dumps({"Records": [record]})

    def left(self, queue: str | None = None) -> int:
        """Messages that are in the queue, also those that someone has at hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue or self.queue, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def dead_letters(self) -> list[tuple[str, str]]:
        """Reason and body of each dead letter; they are taken out."""
        found = []
        while messages := self.sqs.receive_message(
            QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                found.append((message["MessageAttributes"]["Reason"]["StringValue"], message["Body"]))
                self.sqs.delete_message(QueueUrl=self.dead, ReceiptHandle=message["ReceiptHandle"])
        return found


class Watcher:
    """A `watch` command that runs."""

    def __init__(self, process: subprocess.Popen[str], log: Path, lines: Path) -> None:
        self.process, self._log, self._lines = process, log, lines

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def lines(self) -> list[dict[str, Any]]:
        """What it has printed."""
        return [json.loads(line) for line in self._lines.read_text("utf-8").splitlines()]

    def until(self, count: int, timeout_s: float = 240.0) -> list[dict[str, Any]]:
        """Its lines, once there are so many."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.lines()) < count:
            assert self.process.poll() is None, self.log[-3000:]
            assert time.monotonic() < deadline, f"{len(found)} of {count} lines: {self.log[-3000:]}"
            time.sleep(0.1)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=90)


@contextmanager
def watching(bucket: WatchedBucket, home: Path, *arguments: str, name: str = "watch") -> Iterator[Watcher]:
    """`python -m flows watch` of a bucket's recordings with the bundled models, ended at the end of the block."""
    log, lines = home / f"{name}.log", home / f"{name}.jsonl"
    full = environment_of(home) | bucket.environment | {"REELFLOW_CACHE_DIR": str(home / "cache")}
    store = ("--store", f"s3://{bucket.name}/store", "--queue", bucket.queue)
    command = [sys.executable, "-m", "flows", "watch", f"s3://{bucket.name}/{PREFIX}", *store]
    with log.open("a") as errors, lines.open("a") as out:
        process = subprocess.Popen(
            [*command, "--json", *QUICK, *arguments],
            cwd=ROOT,
            env=full | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
            stdout=out,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    try:
        yield Watcher(process, log, lines)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
