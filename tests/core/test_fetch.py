"""Sources of every kind become local files, read once; every failure has its own class."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks.core import remote, source_cache
from tasks.core.errors import (
    CredentialsRefused,
    EmptySource,
    LimitExceeded,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceNotFound,
    StoreUnavailable,
    Throttled,
    UnsupportedSource,
)
from tasks.core.fetch import Fetched, display_source, fetch, hold
from tasks.core.options import LimitOptions
from tasks.core.source_cache import SourceCache

CONTENT = b"some media" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(source: str | Path, cache: Path, max_bytes: int = 2**20, cache_bytes: int = 2**20, **kw: Any) -> Fetched:
    return fetch(str(source), cache, LimitOptions(max_bytes=max_bytes), cache_bytes, **kw)


def old(path: Path, content: bytes = CONTENT) -> Path:
    """A file that has not changed for a minute."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)
    return path


# local files


@pytest.mark.parametrize(
    "name", ["a b.mp4", "quo'te\".mp4", "new\nline.mp4", "-i.mp4", "100%.mp4", "a:b?c#d.mp4", "\udcff.mp4"]
)
def test_a_local_file_is_read_where_it_is(tmp_path: Path, cache: Path, name: str) -> None:
    path = old(tmp_path / name)
    fetched = get(path, cache)
    assert (fetched.path, fetched.sha256, fetched.media_id) == (path, DIGEST, DIGEST[:32])
    assert (fetched.bytes, fetched.cached) == (len(CONTENT), False)
    assert not list(cache.glob("sources/??/*"))


def test_relative_paths_and_links(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "video.mp4")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link").symlink_to("../video.mp4")
    monkeypatch.chdir(tmp_path / "sub")
    assert get("../video.mp4", cache).path == path
    assert get("link", cache).path == path


def test_a_file_uri_is_percent_decoded(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "ü 100%.mp4")
    assert get(path.as_uri(), cache).path == path
    assert get(f"file://localhost{tmp_path}/%C3%BC%20100%25.mp4", cache).path == path
    for wrong in ("file://server/share/a.mp4", "file://relative.mp4"):
        with pytest.raises(UnsupportedSource, match="file:///absolute"):
            get(wrong, cache)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "video.mp4")
    get(path, cache)
    reads = []
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: reads.append(1))
    assert get(path, cache).cached
    assert not reads


def test_a_changed_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "video.mp4")
    first = get(path, cache)
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (time.time() - 30,) * 2)
    second = get(path, cache)
    assert not second.cached
    assert second.media_id != first.media_id


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(CONTENT)
    get(path, cache)
    assert not get(path, cache).cached


def test_local_failures(tmp_path: Path, cache: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").touch()
    old(tmp_path / "big")
    cases: list[tuple[str, type[ReelflowError]]] = [
        (f"{tmp_path}/none", SourceNotFound),
        (f"{tmp_path}/big/none", SourceNotFound),
        (f"{tmp_path}/{'x' * 300}", SourceNotFound),
        (f"{tmp_path}/nul\0", SourceNotFound),
        ("", SourceNotFound),
        (str(tmp_path), UnsupportedSource),
        (f"{tmp_path}/fifo", UnsupportedSource),
        (f"{tmp_path}/loop", UnsupportedSource),
        ("/dev/null", UnsupportedSource),
        (f"{tmp_path}/empty", EmptySource),
        ("gopher://host/file", UnsupportedSource),
    ]
    for source, error in cases:
        with pytest.raises(error) as caught:
            get(source, cache)
        assert type(caught.value) is error, source
    with pytest.raises(LimitExceeded, match=r"limits\.max_bytes=9999"):
        get(tmp_path / "big", cache, max_bytes=9999)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "private.mp4")
    path.chmod(0)
    with pytest.raises(PermissionDenied):
        get(path, cache)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://me:pass@host:8443/a%20b.mp4?X-Amz-Signature=abc&t=1#frag", "https://host:8443/a%20b.mp4"),
        ("HTTP://host", "http://host"),
        ("s3://bucket/key?with#odd", "s3://bucket/key?with#odd"),
        ("s3://AKIA:secret@bucket/a@b", "s3://bucket/a@b"),
        ("ftp://me:pass@host/x", "ftp://..."),
        ("https://[broken?token=1", "https://(no valid address)"),
        ("/a/new\nline\x1b[2J", "/a/new\\nline\\x1b[2J"),
    ],
)
def test_what_is_shown_of_a_source(source: str, shown: str) -> None:
    assert display_source(source) == shown


# http


class Site(BaseHTTPRequestHandler):
    """Answers by path; `asked` collects the requests."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append((path, self.headers.get("If-None-Match")))
        if path.isdecimal() or path[1:].isdecimal():
            self.answer(int(path[1:]), b"no")
        elif path == "/loop":
            self.answer(302, b"", Location="/loop")
        elif path == "/hop":
            self.answer(302, b"", Location="/video.mp4?token=secret")
        elif path == "/away":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif path == "/short":
            self.answer(200, CONTENT, **{"Content-Length": str(2 * len(CONTENT))})
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(CONTENT)
            except OSError:
                self.close_connection = True
        elif path == "/empty":
            self.answer(200, b"")
        elif self.headers.get("If-None-Match") == '"v1"':
            self.answer(304, b"", ETag='"v1"')
        else:
            self.answer(200, CONTENT, ETag='"v1"')

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Site.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1", True), ("10.1.2.3", False), ("172.16.0.1", False), ("100.64.0.1", False),
        ("224.0.0.1", False), ("fe80::1%eth0", False), ("fc00::1", False), ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True), ("2002:7f00:1::", False), ("::", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert remote.is_public(address) is public


def test_the_address_that_was_checked_is_the_one_used(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address between the check and the connection gains nothing."""
    asked = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kw: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "rebind.example" else host, port, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(remote, "is_public", lambda _: True)
    url = site.replace("127.0.0.1", "rebind.example")
    assert get(f"{url}/video.mp4", cache).sha256 == DIGEST
    assert asked.count("rebind.example") == 1


def test_every_redirect_is_checked(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False])
    monkeypatch.setattr(remote, "is_public", lambda _: next(verdicts))
    with pytest.raises(UnsupportedSource, match="private or local"):
        get(f"{site}/hop", cache)
    assert Site.asked == [("/hop", None)]


# S3


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
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


# the cache


def add(cache: SourceCache, content: bytes, age_s: float = 10_000) -> Path:
    path, _, _ = cache.add([content], "test", 2**20)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_the_least_recently_used_goes_first(cache: Path) -> None:
    small = SourceCache(cache, 2500)
    first, second = add(small, b"1" * 1000, 9000), add(small, b"2" * 1000, 9999)
    third = add(small, b"3" * 1000)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def test_what_is_held_or_was_just_used_stays(cache: Path) -> None:
    small = SourceCache(cache, 1500)
    held = add(small, b"1" * 1000)
    with hold(held):
        fresh = add(small, b"2" * 1000, 1)
        add(small, b"3" * 1000)
        assert held.exists()
    assert fresh.exists()
    add(small, b"4" * 1000)
    assert not held.exists()


def test_a_source_larger_than_the_cache(site: str, cache: Path) -> None:
    with pytest.raises(StoreUnavailable, match="raise the bound"):
        get(f"{site}/video.mp4", cache, cache_bytes=5000, allow_private_hosts=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="is full"):
        get(f"{site}/video.mp4", cache, allow_private_hosts=True)
    assert not list(cache.rglob("*.part"))


def test_a_disk_without_room_is_seen_beforehand(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(StoreUnavailable, match="is full"):
        get(f"{site}/video.mp4", cache, allow_private_hosts=True)


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="REELFLOW_CACHE_DIR"):
        get(old(tmp_path / "video.mp4"), tmp_path / "file")


def test_leftovers_of_a_killed_download_go(cache: Path) -> None:
    small = SourceCache(cache, 10**6)
    dead, living = small.parts / "dead.part", small.parts / "living.part"
    for path in (dead, living):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 2 * source_cache.STALE_S,) * 2)
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        add(small, b"1")
    assert (dead.exists(), living.exists()) == (False, True)


def test_a_damaged_index_counts_as_none(tmp_path: Path, cache: Path) -> None:
    path = old(tmp_path / "video.mp4")
    get(path, cache)
    for entry in cache.rglob("*.json"):
        entry.write_text('{"sha256": ')
    assert get(path, cache).sha256 == DIGEST


def test_processes_that_ask_at_once_read_once(site: str, cache: Path) -> None:
    code = f"""
from pathlib import Path
from tasks.core.fetch import fetch
from tasks.core.options import LimitOptions
print(fetch("{site}/video.mp4", Path({str(cache)!r}), LimitOptions(), 10**6, allow_private_hosts=True).cached)
"""
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    children = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    assert answers == ["False", "True", "True"]
    assert sorted(tag or "" for _, tag in Site.asked) == ["", '"v1"', '"v1"']
