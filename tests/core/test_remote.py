"""Sources on a network: streamed once, checked before they are read; every failure has its own class."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tasks.core import remote, web
from tasks.core.errors import (
    CredentialsRefused,
    EmptySource,
    LimitExceeded,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceNotFound,
    Throttled,
    UnsupportedSource,
)
from tests.core.sources import CONTENT, DIGEST, Site, get


def test_http_is_streamed_into_the_cache_once(site: str, cache: Path) -> None:
    url = f"{site}/video.mp4?sig=secret"
    fetched = get(url, cache, allow_private_hosts=True)
    assert fetched.path == cache / "sources" / DIGEST[:2] / DIGEST[:32]
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.source == f"{site}/video.mp4"
    again = get(url, cache, allow_private_hosts=True)
    assert (again.cached, again.path, again.sha256) == (True, fetched.path, DIGEST)
    assert Site.asked == [("/video.mp4", None), ("/video.mp4", '"v1"')]
    assert not any(b"secret" in path.read_bytes() for path in cache.rglob("*.json"))


def test_evicted_content_is_read_again(site: str, cache: Path) -> None:
    fetched = get(f"{site}/video.mp4", cache, allow_private_hosts=True)
    fetched.path.unlink()
    assert get(f"{site}/video.mp4", cache, allow_private_hosts=True).path.read_bytes() == CONTENT


def test_redirects_are_followed(site: str, cache: Path) -> None:
    assert get(f"{site}/hop", cache, allow_private_hosts=True).sha256 == DIGEST


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("404", SourceNotFound),
        ("410", SourceNotFound),
        ("401", PermissionDenied),
        ("403", PermissionDenied),
        ("429", Throttled),
        ("500", NetworkError),
        ("503", NetworkError),
        ("418", UnsupportedSource),
        ("loop", UnsupportedSource),
        ("away", UnsupportedSource),
        ("short", NetworkError),
        ("endless", LimitExceeded),
        ("empty", EmptySource),
    ],
)
def test_http_failures(site: str, cache: Path, path: str, error: type[ReelflowError]) -> None:
    with pytest.raises(error) as caught:
        get(f"{site}/{path}?token=secret", cache, max_bytes=10**6, allow_private_hosts=True)
    assert type(caught.value) is error
    assert "secret" not in str(caught.value) + caught.value.detail
    assert not [part for part in cache.rglob("*") if part.suffix == ".part" or part.parent.parent.name == "sources"]


def test_a_stated_size_beyond_the_limit_is_not_read(site: str, cache: Path) -> None:
    with pytest.raises(LimitExceeded, match="10000 bytes"):
        get(f"{site}/video.mp4", cache, max_bytes=9999, allow_private_hosts=True)


def test_a_server_that_is_not_there(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(NetworkError):
        get(f"http://127.0.0.1:{port}/x?token=secret", cache, allow_private_hosts=True)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254", "192.168.1.1", "0", "2130706433"],
)
def test_private_hosts_are_refused(cache: Path, host: str) -> None:
    with pytest.raises(UnsupportedSource, match="private or local"):
        get(f"http://{host}:9/x", cache)


def test_the_address_that_was_checked_is_the_one_used(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address between the check and the connection gains nothing."""
    asked = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kw: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "rebind.example" else host, port, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(web, "is_public", lambda _: True)
    url = site.replace("127.0.0.1", "rebind.example")
    assert get(f"{url}/video.mp4", cache).sha256 == DIGEST
    assert asked.count("rebind.example") == 1


def test_every_redirect_is_checked(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False])
    monkeypatch.setattr(web, "is_public", lambda _: next(verdicts))
    with pytest.raises(UnsupportedSource, match="private or local"):
        get(f"{site}/hop", cache)
    assert Site.asked == [("/hop", None)]


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="recordings")
    return client


def test_s3_is_read_once_and_again_when_it_changes(s3: Any, cache: Path) -> None:
    s3.put_object(Bucket="recordings", Key="a b/ü?#%20.mp4", Body=CONTENT)
    source = "s3://recordings/a b/ü?#%20.mp4"
    first, again = get(source, cache), get(source, cache)
    assert (first.cached, again.cached) == (False, True)
    assert first.path.read_bytes() == CONTENT
    s3.put_object(Bucket="recordings", Key="a b/ü?#%20.mp4", Body=CONTENT[::-1])
    changed = get(source, cache)
    assert not changed.cached
    assert changed.path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("s3://no-such-bucket-here/key.mp4", SourceNotFound, "no bucket 'no-such-bucket-here'"),
        ("s3://recordings/none.mp4", SourceNotFound, "no such object"),
        ("s3://in valid/key.mp4", SourceNotFound, "no valid bucket name"),
        ("s3://recordings", UnsupportedSource, "names no object"),
        ("s3:///key", UnsupportedSource, "names no object"),
    ],
)
def test_s3_failures(s3: Any, cache: Path, source: str, error: type[ReelflowError], says: str) -> None:
    with pytest.raises(error, match=says):
        get(source, cache)


def test_s3_limits(s3: Any, cache: Path) -> None:
    s3.put_object(Bucket="recordings", Key="big", Body=CONTENT)
    s3.put_object(Bucket="recordings", Key="empty", Body=b"")
    with pytest.raises(LimitExceeded):
        get("s3://recordings/big", cache, max_bytes=100)
    with pytest.raises(EmptySource):
        get("s3://recordings/empty", cache)


def test_s3_without_credentials(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(CredentialsRefused, match="AWS_ACCESS_KEY_ID"):
        get("s3://recordings/x", cache)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", PermissionDenied),
        (400, "ExpiredToken", CredentialsRefused),
        (403, "SignatureDoesNotMatch", CredentialsRefused),
        (403, "InvalidObjectState", UnsupportedSource),
        (503, "SlowDown", Throttled),
        (500, "InternalError", NetworkError),
        (404, "NoSuchKey", SourceNotFound),
    ],
)
def test_answers_of_s3(status: int, code: str, error: type[ReelflowError]) -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    failure = remote._s3_failure(ClientError(answer, "GetObject"), "bucket", "s3://bucket/key")
    assert type(failure) is error
