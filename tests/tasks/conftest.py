"""Buckets of real S3 servers (moto, SeaweedFS), one for each test, behind a proxy that counts and can fail."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tasks.store import Store, open_store
from tests.fault_proxy import FaultProxy, Faults

_numbers = itertools.count()


@pytest.fixture
def clean_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, region or endpoint of this machine; a cache of the test's own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "REELFLOW_S3__"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))
    open_store.cache_clear()


@pytest.fixture
def s3_server(request: pytest.FixtureRequest) -> dict[str, str]:
    """Environment of the server's clients: moto's, or that of the fixture which ON_BOTH_SERVERS names."""
    environment: dict[str, str] = request.getfixturevalue(getattr(request, "param", "s3_environment"))
    return environment


ON_BOTH_SERVERS = pytest.mark.parametrize("s3_server", ["s3_environment", "seaweedfs_environment"], indirect=True)
"""A test of what real servers do differently."""


@pytest.fixture
def proxy(clean_aws: None, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What the environment names as the S3 endpoint."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    with FaultProxy(s3_server["AWS_ENDPOINT_URL"], record=True, seed=7) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.fixture
def bucket(proxy: FaultProxy, s3_server: dict[str, str]) -> Iterator[str]:
    """A fresh bucket."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    _client(tuple(s3_server.items())).create_bucket(Bucket=name)
    proxy.seen.clear()
    proxy.counts.clear()
    yield name
    proxy.faults = Faults()
    proxy.answer = None


@pytest.fixture
def s3_store(bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture
def raw(bucket: str, s3_server: dict[str, str]) -> Any:
    """A boto3 client that goes to the server directly, past the proxy."""
    return _client(tuple(s3_server.items()))


@cache
def _client(environment: tuple[tuple[str, str], ...]) -> Any:
    """Made once for each server; boto3 alone would keep the keys of the first."""
    import boto3

    url, key, secret, region = (value for _, value in environment)
    return boto3.Session(key, secret, region_name=region).client("s3", endpoint_url=url)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """`make_file(content)`: a file outside of the store."""

    def make(content: bytes, name: str = "made.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make
