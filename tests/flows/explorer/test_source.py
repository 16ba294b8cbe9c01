import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError
from starlette.testclient import TestClient

from flows.explorer import create_app, source
from tasks.core.errors import SourceChanged
from tasks.core.schema import Result
from tasks.core.source_cache import SourceCache
from tasks.records.results import result_path
from tasks.store import Store
from tests.flows.explorer.stores import add_media

BUCKET = "explorer-sources"

Get = Callable[..., Any]
"""`get("GET", {"range": ...})`: the answer to a request for the source."""


@pytest.fixture
def aws(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a real S3 server, which the explorer reads from too."""
    import boto3

    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.delete_bucket(Bucket=BUCKET)


def source_at(store: Store, media: Result) -> Get:
    client = TestClient(create_app(store, lambda query: []), base_url="http://localhost")
    return lambda method="GET", headers=None: client.request(
        method, f"/api/media/{media.media_id}/source", headers=headers
    )


@pytest.fixture(params=["folder", "bucket", "cache"])
def get(request: pytest.FixtureRequest, store: Store, talk: Path, tmp_path: Path) -> Get:
    """The talk, wherever its source lies: a local file, a bucket, or a web site that this host has read from."""
    if request.param == "folder":
        return source_at(store, add_media(store, talk, talk.as_uri()))
    if request.param == "cache":
        SourceCache(tmp_path / "cache", 2**30).add([talk.read_bytes()], "talk", 2**20)
        return source_at(store, add_media(store, talk, "https://example.org/talk.mp4"))
    request.getfixturevalue("aws").put_object(Bucket=BUCKET, Key="a folder/talk.mp4", Body=talk.read_bytes())
    return source_at(store, add_media(store, talk, f"s3://{BUCKET}/a folder/talk.mp4"))


def test_the_whole_source(get: Get, talk: Path) -> None:
    answer = get()
    assert (answer.status_code, answer.content) == (200, talk.read_bytes())
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()[:32]}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=4-7", 4, 8), ("bytes=100-", 100, None), ("bytes=-5", -5, None),
     ("bytes=10-999999999", 10, None), ("bytes=-999999999", 0, None)],
)  # fmt: skip
def test_a_range(get: Get, talk: Path, asked: str, start: int, stop: int | None) -> None:
    content = talk.read_bytes()
    first, last, _ = slice(start, stop).indices(len(content))
    answer = get("GET", {"range": asked})
    assert (answer.status_code, answer.content) == (206, content[start:stop])
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(content)}"
    assert answer.headers["content-length"] == str(last - first)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=999999999-9999999999"])
def test_a_range_beyond_the_end(get: Get, talk: Path, asked: str) -> None:
    answer = get("GET", {"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{talk.stat().st_size}"


@pytest.mark.parametrize(
    "asked", ["bytes=x-", "bytes", "bytes=9-4", "lines=1-2", "bytes=--1", "bytes=²-", "bytes=1-2-3"]
)
def test_nonsense_is_refused_or_ignored(get: Get, talk: Path, asked: str) -> None:
    """A server may ignore a Range that it cannot read."""
    answer = get("GET", {"range": asked.encode()})
    assert answer.status_code in (200, 400, 416)
    assert answer.status_code != 200 or answer.content == talk.read_bytes()


@pytest.mark.parametrize("same", [True, False])
def test_a_range_of_another_version_is_the_whole(get: Get, talk: Path, same: bool) -> None:
    digest = hashlib.sha256(talk.read_bytes()).hexdigest()[:32]
    answer = get("GET", {"range": "bytes=0-3", "if-range": f'"{digest}"' if same else '"another"'})
    assert answer.status_code == (206 if same else 200)


def test_head_has_the_headers_and_no_body(get: Get, talk: Path) -> None:
    answer = get("HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(talk.stat().st_size)
    part = get("HEAD", {"range": "bytes=0-9"})
    assert (part.status_code, part.content, part.headers["content-length"]) == (206, b"", "10")


def test_a_local_file_that_has_changed_is_not_sent(store: Store, talk: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.mp4"
    file.write_bytes(talk.read_bytes())
    get = source_at(store, add_media(store, file))
    assert get().status_code == 200
    content = bytearray(talk.read_bytes())
    content[-1] ^= 1
    for changed in (content, content + b"x", content[:-9], b""):
        file.write_bytes(changed)
        answer = get()
        assert answer.status_code == 409
        assert "has changed" in answer.json()["error"]
    file.unlink()
    assert get().status_code == 404


def test_a_result_cannot_name_another_file(store: Store, shown: Result, tmp_path: Path) -> None:
    """Whoever can write to the store cannot have the explorer read them a file that they do not know already."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    forged = shown.model_copy(
        update={"source": str(secret), "media": shown.media.model_copy(update={"bytes": secret.stat().st_size})}
    )
    store.write(result_path(shown.media_id), forged.model_dump_json(by_alias=True).encode())
    answer = source_at(store, forged)()
    assert answer.status_code == 409
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["fifo", ".", "/dev/zero"])
def test_a_source_that_is_no_file_is_not_read(store: Store, talk: Path, tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    answer = source_at(store, add_media(store, talk, str(tmp_path / path)))()
    assert answer.status_code == 415


def test_an_object_that_has_changed_is_not_sent(store: Store, talk: Path, aws: Any) -> None:
    get = source_at(store, add_media(store, talk, f"s3://{BUCKET}/talk.mp4"))
    for content in (b"", b"short", talk.read_bytes() + b"x"):
        aws.put_object(Bucket=BUCKET, Key="talk.mp4", Body=content)
        assert get("GET", {"range": "bytes=0-3"}).status_code == 409
        assert get("HEAD").status_code == 409
    aws.delete_object(Bucket=BUCKET, Key="talk.mp4")
    assert get().status_code == 404


@pytest.mark.parametrize("address", ["s3://explorer-nowhere/talk.mp4", "s3://explorer-nowhere", "s3://"])
def test_no_such_bucket_or_object(store: Store, talk: Path, aws: Any, address: str) -> None:
    assert source_at(store, add_media(store, talk, address))().status_code in (404, 415)


@pytest.mark.parametrize("address", ["https://example.org/a.mp4", "ftp://example.org/a.mp4", "gopher://x"])
def test_the_explorer_asks_no_other_server(store: Store, talk: Path, address: str) -> None:
    answer = source_at(store, add_media(store, talk, address))()
    assert answer.status_code == 415
    assert "keeps no copy" in answer.json()["error"]


class Breaks:
    """A body that gives 1000 bytes, then fails."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        yield self.body.read(1000)
        raise ResponseStreamingError(error="cut")

    def close(self) -> None:
        self.body.close()


def test_a_body_that_breaks_goes_on_where_it_stopped(
    store: Store, talk: Path, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = source._open_object
    ranges: list[tuple[int, int]] = []

    def open_broken(asked: source.Source, first: int, last: int, etag: str | None = None) -> dict[str, Any]:
        ranges.append((first, last))
        answer = opened(asked, first, last, etag)
        return {**answer, "Body": Breaks(answer["Body"])} if len(ranges) < 4 else answer

    monkeypatch.setattr(source, "_open_object", open_broken)
    aws.put_object(Bucket=BUCKET, Key="talk.mp4", Body=talk.read_bytes())
    answer = source_at(store, add_media(store, talk, f"s3://{BUCKET}/talk.mp4"))("GET", {"range": "bytes=10-5009"})
    assert answer.content == talk.read_bytes()[10:5010]
    assert ranges == [(10, 5009), (1010, 5009), (2010, 5009), (3010, 5009)]


def test_a_body_that_breaks_does_not_go_on_with_another_version(
    store: Store, talk: Path, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object of the same size took its place: half of one and half of the other is neither."""
    opened = source._open_object
    content = talk.read_bytes()

    def replace_meanwhile(asked: source.Source, *arguments: Any) -> dict[str, Any]:
        answer = opened(asked, *arguments)
        aws.put_object(Bucket=BUCKET, Key="talk.mp4", Body=content[::-1])
        return {**answer, "Body": Breaks(answer["Body"])}

    aws.put_object(Bucket=BUCKET, Key="talk.mp4", Body=content)
    get = source_at(store, add_media(store, talk, f"s3://{BUCKET}/talk.mp4"))
    monkeypatch.setattr(source, "_open_object", replace_meanwhile)
    with pytest.raises(RuntimeError) as raised:  # the answer has begun: a server closes the connection
        get("GET", {"range": "bytes=10-5009"})
    assert isinstance(raised.value.__cause__, SourceChanged)
