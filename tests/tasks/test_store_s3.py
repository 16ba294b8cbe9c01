"""A bucket: what is sent with every request, what is asked for at all, and what survives a broken connection."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import NetworkError, SourceChanged, StoreConflict
from tasks.core.fetch import fetch
from tasks.core.options import LimitOptions
from tasks.core.s3 import S3Options, s3_client
from tasks.core.schema import ArtifactRef
from tasks.records.artifacts import artifact_file, find, save
from tasks.store import Store
from tasks.store.object_cache import ObjectCache
from tests.fault_proxy import RESETS, FaultProxy, Faults, Seen
from tests.tasks.conftest import ON_BOTH_SERVERS

OWNER = "123456789012"
LARGE = 21 * 2**20
"""Three parts and a rest."""


def methods(proxy: FaultProxy) -> Counter[str]:
    return Counter(request.method for request in proxy.seen)


def use_everything(store: Store, make_file: Callable[..., Path]) -> None:
    store.write("a", b"1")
    store.put("large", make_file(os.urandom(LARGE)))
    store.read("a")
    store.size("a")
    store.local("large")
    store.commit("b", b"1", None)
    list(store.list(""))
    store.delete("a")


def test_owner_and_encryption_go_with_every_request_they_are_for(
    s3_store: Store, proxy: FaultProxy, make_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELFLOW_S3__EXPECTED_BUCKET_OWNER", OWNER)
    monkeypatch.setenv("REELFLOW_S3__ENCRYPTION", "aws:kms")
    monkeypatch.setenv("REELFLOW_S3__KMS_KEY_ID", "alias/reelflow")
    use_everything(s3_store, make_file)
    assert {"GET", "PUT", "POST", "HEAD", "DELETE"} == set(methods(proxy))
    for request in proxy.seen:
        assert request.headers["x-amz-expected-bucket-owner"] == OWNER, request
        begins = request.method == "POST" and request.path.endswith("?uploads")
        puts = request.method == "PUT" and "partNumber" not in request.path
        wanted = "aws:kms" if begins or puts else None
        assert request.headers.get("x-amz-server-side-encryption") == wanted, request
        key = request.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
        assert key == ("alias/reelflow" if wanted else None)


def test_by_itself_nothing_is_made_public_and_nothing_unusual_is_sent(
    s3_store: Store, proxy: FaultProxy, make_file: Callable[..., Path]
) -> None:
    use_everything(s3_store, make_file)
    for request in proxy.seen:
        assert not [name for name in request.headers if name.startswith(("x-amz-acl", "x-amz-grant", "x-amz-server-"))]
        assert "acl" not in request.path
        assert "x-amz-trailer" not in request.headers
        assert "x-amz-expected-bucket-owner" not in request.headers
        if request.method == "PUT":
            assert re.fullmatch("[0-9a-f]{64}", request.headers["x-amz-content-sha256"]), "the body is not signed"


def test_sources_are_read_with_their_own_owner(bucket: str, raw: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    raw.put_object(Bucket=bucket, Key="in/a", Body=b"media")

    def owner_sent(**options: Any) -> str | None:
        proxy.seen.clear()
        cache = tmp_path / os.urandom(4).hex()
        fetch(f"s3://{bucket}/in/a", cache, LimitOptions(), 2**20, s3=S3Options(**options))
        [request] = proxy.seen
        return request.headers.get("x-amz-expected-bucket-owner")

    assert owner_sent() is None
    assert owner_sent(expected_bucket_owner=OWNER) == OWNER
    assert owner_sent(expected_bucket_owner=OWNER, source_bucket_owner="9" * 12) == "9" * 12
    assert owner_sent(expected_bucket_owner=OWNER, source_bucket_owner="any") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"encryption": "rot13"},
        {"expected_bucket_owner": "me"},
        {"max_attempts": 0},
        {"multipart_chunk_bytes": 100},
        {"kms_key_id": "alias/x"},
        {"acl": "public-read"},
    ],
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        S3Options(**wrong)


def test_one_client_per_process_and_configuration(proxy: FaultProxy) -> None:
    options = S3Options(multipart_concurrency=3)
    assert s3_client(options, None) is s3_client(S3Options(multipart_concurrency=3), None)
    assert s3_client(options, None) is not s3_client(options, OWNER)
    assert s3_client(options, None).meta.config.max_pool_connections >= 3


# requests


@ON_BOTH_SERVERS
def test_a_file_is_one_request_and_then_a_conditional_one(s3_store: Store, proxy: FaultProxy) -> None:
    s3_store.write("x", b"1" * 100_000)
    proxy.seen.clear()
    first = s3_store.local("x")
    assert methods(proxy) == {"GET": 1}
    assert s3_store.local("x") == first
    assert methods(proxy) == {"GET": 2}
    assert "if-none-match" in proxy.seen[1].headers


def test_an_artifact_is_read_without_a_request_where_it_was_made_and_once_elsewhere(
    s3_store: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = ArtifactRef(
        media_id="m",
        stage="s",
        key="0" * 32,
        uri=s3_store.uri("media/m/s/" + "0" * 32),
        store=s3_store.address,
        finished=7.5,
    )
    with s3_store.workspace() as work:
        for name in ("a.json", "b.bin"):
            (work / name).write_bytes(name.encode())
        ref = save(s3_store, ref, work)
    proxy.seen.clear()
    assert artifact_file(ref, "a.json").read_bytes() == b"a.json"
    assert not proxy.seen
    found = find(s3_store, "m", "s", "0" * 32)
    assert found is not None
    assert len(proxy.seen) == 2
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "another host"))
    for _ in range(3):
        assert artifact_file(found, "b.bin").read_bytes() == b"b.bin"
    assert len(proxy.seen) == 3
    s3_store.delete("media/m/s/" + "0" * 32 + "/b.bin")
    assert find(s3_store, "m", "s", "0" * 32) is None


def test_the_cache_stays_within_its_bound_and_spares_what_was_just_used(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 1000)
    old = [cache.add(f"s3://b/{n}", "1", [b"x" * 300]) for n in range(3)]
    for age, path in enumerate(old):
        os.utime(path, (0, age))
    fresh = [cache.add(f"s3://b/new{n}", "1", [b"x" * 300]) for n in range(2)]
    assert [path.exists() for path in old] == [False, False, True]
    assert all(path.exists() for path in fresh)
    assert cache.find("s3://b/0", "1") is None
    assert cache.find("s3://b/2", "1") == old[2]
    assert not list((tmp_path / "work").iterdir())


# broken connections


def broken(kind: str, times: int, proxy: FaultProxy, method: str) -> None:
    """The next `times` requests of a method meet one kind of reset."""
    left = [times]

    def draw(request: Seen) -> str:
        proxy.seen.append(request)
        if request.method == method and left[0]:
            left[0] -= 1
            return kind
        return ""

    proxy.draw = draw  # type: ignore[method-assign]


@ON_BOTH_SERVERS
def test_a_commit_whose_answer_was_lost_has_won(s3_store: Store, proxy: FaultProxy) -> None:
    assert s3_store.guarantee == "atomic"
    broken("reset after", 1, proxy, "PUT")
    s3_store.commit("result.json", b"mine", None)
    found = s3_store.read("result.json")
    assert found is not None
    broken("reset after", 1, proxy, "PUT")
    s3_store.commit("result.json", b"mine again", found[1])
    broken("reset after", 1, proxy, "PUT")
    with pytest.raises(StoreConflict):
        s3_store.commit("result.json", b"late", found[1])


@ON_BOTH_SERVERS
def test_parts_whose_completion_was_not_answered_are_sent_again(
    s3_store: Store, proxy: FaultProxy, make_file: Callable[..., Path], raw: Any, bucket: str
) -> None:
    content = os.urandom(LARGE)
    posts = [0]

    def draw(request: Seen) -> str:
        posts[0] += request.method == "POST"
        return "reset after" if request.method == "POST" and posts[0] == 2 else ""

    proxy.draw = draw  # type: ignore[method-assign]
    s3_store.put("large", make_file(content))
    assert posts[0] > 2
    assert s3_store.local("large").read_bytes() == content
    assert "Uploads" not in raw.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("kind", RESETS)
def test_a_broken_read_goes_on_where_it_stopped(
    s3_store: Store, proxy: FaultProxy, make_file: Callable[..., Path], kind: str
) -> None:
    content = os.urandom(8 * 2**20)
    s3_store.put("x", make_file(content))
    proxy.seen.clear()
    broken(kind, 3, proxy, "GET")
    assert s3_store.local("x").read_bytes() == content
    ranges = [request.headers["range"] for request in proxy.seen if "range" in request.headers]
    begins = [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]
    if kind == "end within":
        assert begins == [4 * 2**20, 6 * 2**20, 7 * 2**20]
    elif kind == "reset within":
        assert begins == sorted(begins), "how much a client reads before a reset is a matter of chance"
        assert len(begins) == 3
    else:
        assert not begins
    assert all("if-match" in request.headers for request in proxy.seen if "range" in request.headers)


@ON_BOTH_SERVERS
def test_a_source_is_read_on_where_it_broke_and_not_mixed_with_another(
    bucket: str, proxy: FaultProxy, raw: Any, tmp_path: Path
) -> None:
    content = os.urandom(8 * 2**20)
    raw.put_object(Bucket=bucket, Key="in/a.mp4", Body=content)
    broken("reset within", 2, proxy, "GET")
    source = f"s3://{bucket}/in/a.mp4"
    assert fetch(source, tmp_path / "cache", LimitOptions(), 2**30).path.read_bytes() == content
    assert len(proxy.seen) == 3

    def replace(request: Seen) -> str:
        if "range" not in request.headers:
            return "reset within"
        raw.put_object(Bucket=bucket, Key="in/b.mp4", Body=os.urandom(8 * 2**20))
        return ""

    raw.put_object(Bucket=bucket, Key="in/b.mp4", Body=content)
    proxy.draw = replace  # type: ignore[method-assign]
    with pytest.raises(SourceChanged, match="replaced while it was read"):
        fetch(f"s3://{bucket}/in/b.mp4", tmp_path / "cache", LimitOptions(), 2**30)
    assert not list((tmp_path / "cache" / "sources" / "tmp").iterdir())


def test_reads_that_never_get_on_end(s3_store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_S3__MAX_ATTEMPTS", "3")
    s3_store.write("x", b"1" * 1000)
    proxy.seen.clear()
    broken("reset within", 100, proxy, "GET")
    with pytest.raises(NetworkError, match="AWS_ENDPOINT_URL"):
        s3_store.read("x")
    assert len(proxy.seen) <= 9


@pytest.mark.slow
def test_thousands_of_requests_go_through_a_server_that_fails_a_tenth_of_them(
    s3_store: Store, proxy: FaultProxy
) -> None:
    """Most are answered 404, which botocore's own retry quota does not survive."""
    proxy.faults = Faults.evenly(0.1, stall_s=0.05)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda number: s3_store.read(f"none/{number}"), range(2000)))
    assert sum(proxy.counts[kind] for kind in ("500", "503", *RESETS)) > 100
