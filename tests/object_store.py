"""The S3 server of `make up` as a process, for tests."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.ports import free_port
from tests.source_tree import ROOT

STARTS_S = 180.0


@dataclass
class ObjectStore:
    folder: Path
    port: int
    key: str
    secret: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of its clients."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """boto3's, which sends each request once."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Runs in the block, with new keys, on what FOLDER holds; fails with its log where it doesn't start."""
    folder.mkdir(parents=True, exist_ok=True)
    key, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
    port, log = free_port(), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.object_store", str(folder), str(port)],
            cwd=ROOT,
            env={"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
            stdout=output,
            stderr=output,
        )
    store = ObjectStore(folder, port, key, secret, process)
    try:
        _await(store, log)
        yield store
    finally:
        process.terminate()
        process.wait(30)


def _await(store: ObjectStore, log: Path) -> None:
    """Until it stores: it answers a little earlier."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline, client = time.monotonic() + STARTS_S, store.client()
    while True:
        try:
            client.put_object(Bucket=f"ready-{store.key}", Key="ready", Body=b"1")
            return
        except (BotoCoreError, ClientError):
            said = log.read_text(errors="replace")[-4000:]
            assert store.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
