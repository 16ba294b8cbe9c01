"""An S3 server for benchmarks: moto as a process of its own, over HTTP on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

START_S = 60.0


@contextmanager
def s3_server(folder: Path, bucket: str) -> Iterator[Any]:
    """A plain boto3 client of the server, with an empty bucket.

    In the block the environment leads boto3 and our stores there, and caches into `folder`, whatever was set before.
    Raises AssertionError where the server does not start.
    """
    import boto3

    from tasks.core.ports import free_port
    from tasks.store import open_store

    port = free_port()
    ours = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_CONFIG_FILE": str(folder / "none"),
        "REELFLOW_CACHE_DIR": str(folder / "cache"),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "REELFLOW_S3"))}
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with mock.patch.dict(os.environ, kept | ours, clear=True), (folder / "s3.log").open("wb") as log:
        open_store.cache_clear()
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(port, server, folder / "s3.log")
            client = boto3.client("s3")
            client.create_bucket(Bucket=bucket)
            yield client
        finally:
            server.terminate()
            server.wait()
            open_store.cache_clear()


@contextmanager
def counted_requests() -> Iterator[list[str]]:
    """Methods and URLs of the HTTP requests that botocore sends in the block, by any client."""
    from botocore.httpsession import URLLib3Session

    sent: list[str] = []
    send = URLLib3Session.send

    def record(session: Any, request: Any) -> Any:
        sent.append(f"{request.method} {request.url}")
        return send(session, request)

    with mock.patch.object(URLLib3Session, "send", record):
        yield sent


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"moto_server did not start: {log.read_text(errors='replace')[-2000:]}")
