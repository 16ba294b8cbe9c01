"""What refuses to work ends in one sentence that says what to do, and only what passes by itself is tried again.

Credentials and permissions are refused by a server that checks signatures and policies (moto with IAM); what it does
not know (KMS, regions, quotas, clocks) is answered by the proxy as S3 answers it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from flows.cli import doctor
from tasks.core.errors import (
    CredentialsRefused,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SetupError,
    StoreUnavailable,
    Throttled,
    TransientError,
)
from tasks.core.fetch import fetch
from tasks.core.options import LimitOptions
from tasks.store import Store, open_store
from tests.fault_proxy import FaultProxy

# a server with users


@dataclass(frozen=True)
class Server:
    url: str
    users: dict[str, dict[str, str]]
    """Environment of a client, by user: `writer` may do everything in the bucket, `reader` only read and list."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait(port, process, log)
        first: Any = {
            "endpoint_url": url,
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
            "region_name": "us-east-1",
        }
        boto3.client("s3", **first).create_bucket(Bucket="media")
        iam = boto3.client("iam", **first)
        users = {name: _user(iam, name, actions) for name, actions in _ALLOWED.items()}
        httpx.post(f"{url}/moto-api/reset-auth", content=b"0").raise_for_status()
        yield Server(url, users)
    finally:
        process.terminate()
        process.wait(10)


_ALLOWED = {"writer": ["s3:*"], "reader": ["s3:GetObject", "s3:ListBucket"]}


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _user(iam: Any, name: str, actions: list[str]) -> dict[str, str]:
    iam.create_user(UserName=name)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::media", "arn:aws:s3:::media/*"]}
        ],
    }
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.fixture
def as_user(clean_aws: None, server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """`as_user("reader")`: the store as that user sees it; keyword arguments replace parts of its environment."""

    def use(name: str, bucket: str = "media", **other: str) -> Store:
        environment = {"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1"} | server.users[name] | other
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        return open_store(f"s3://{bucket}/store")

    return use


def refusal(store: Store, action: Callable[[Store], object]) -> str:
    """The sentence, which is for a person: it is no transient failure, has no traceback and names the store."""
    with pytest.raises(StoreUnavailable) as caught:
        action(store)
    message = caught.value.message
    assert not isinstance(caught.value, TransientError)
    assert store.root in message
    assert "\n" not in message
    assert message.endswith(".")
    assert ";" in message
    return message


WRITES: list[Callable[[Store], object]] = [
    lambda store: store.write("x", b"1"),
    lambda store: store.commit("x", b"1", None),
    lambda store: store.check(),
]
READS: list[Callable[[Store], object]] = [
    lambda store: store.read("x"),
    lambda store: store.size("x"),
    lambda store: store.local("x"),
    lambda store: list(store.list("")),
]


def test_who_may_write_does(as_user: Callable[..., Store]) -> None:
    store = as_user("writer")
    store.commit("x", b"1", None)
    assert store.check() == "atomic"


@pytest.mark.parametrize("action", [*WRITES, *READS])
def test_wrong_credentials(as_user: Callable[..., Store], action: Callable[[Store], object]) -> None:
    unknown = refusal(as_user("writer", AWS_ACCESS_KEY_ID="AKIAUNKNOWN"), action)
    assert "does not know the access key" in unknown
    assert "AWS_ACCESS_KEY_ID" in unknown
    assert "AKIAUNKNOWN" not in unknown
    wrong = refusal(as_user("writer", AWS_SECRET_ACCESS_KEY="wrong"), action)
    assert "AWS_SECRET_ACCESS_KEY" in wrong


@pytest.mark.parametrize("action", WRITES)
def test_no_permission_to_write(as_user: Callable[..., Store], action: Callable[[Store], object]) -> None:
    assert "does not permit s3:PutObject" in refusal(as_user("reader"), action)


def test_a_large_file_without_permission(as_user: Callable[..., Store], make_file: Callable[..., Path]) -> None:
    large = make_file(bytes(17 * 2**20))
    assert "does not permit s3:PutObject" in refusal(as_user("reader"), lambda store: store.put("x", large))
    assert large.exists()


@pytest.mark.parametrize("action", [*WRITES, READS[0], READS[2], READS[3]])
def test_a_missing_bucket(s3_store: Store, raw: Any, bucket: str, action: Callable[[Store], object]) -> None:
    raw.delete_bucket(Bucket=bucket)
    message = refusal(s3_store, action)
    assert f"bucket '{bucket}'" in message
    assert "REELFLOW_STORE" in message


def test_no_credentials(clean_aws: None) -> None:
    assert "AWS_ACCESS_KEY_ID" in refusal(open_store("s3://bucket/x"), READS[0])


def test_a_profile_that_does_not_exist(clean_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "ProfileNotFound" in refusal(open_store("s3://bucket/x"), READS[0])


@pytest.mark.parametrize("address", ["s3://", "s3:///x", "s3://in valid/x", "s3://Ab/x"])
def test_no_valid_bucket(proxy: FaultProxy, address: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"s3://bucket/prefix|does not exist"):
        open_store(address).read("x")


@pytest.mark.parametrize(
    ("status", "code", "message", "says"),
    [
        (400, "ExpiredToken", "The provided token has expired.", "AWS_SESSION_TOKEN"),
        (403, "InvalidToken", "The provided token is malformed.", "AWS_SESSION_TOKEN"),
        (403, "RequestTimeTooSkewed", "The difference is too large.", "clock"),
        (403, "AccessDenied", "User is not authorized to perform: kms:GenerateDataKey", "kms:GenerateDataKey"),
        (400, "KMS.DisabledException", "The key is disabled.", "KMS_KEY_ID"),
        (301, "PermanentRedirect", "Use the endpoint of the bucket.", "another region"),
        (400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'", "AWS_DEFAULT_REGION"),
        (507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", "full"),
        (400, "Odd", "Something else.", "Odd"),
    ],
)
def test_refusals_of_other_kinds(
    s3_store: Store, proxy: FaultProxy, status: int, code: str, message: str, says: str
) -> None:
    proxy.answer = lambda request: (status, code, message)
    assert says in refusal(s3_store, WRITES[0])
    asked = len(proxy.seen)
    assert asked <= 3, "what a person has to mend is not tried again"


def test_a_bucket_of_another_owner(s3_store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_S3__EXPECTED_BUCKET_OWNER", "1" * 12)
    proxy.answer = lambda request: (403, "AccessDenied", "Access Denied")
    assert "belongs to account 111111111111" in refusal(s3_store, WRITES[0])


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (500, "InternalError", NetworkError),
        (503, "ServiceUnavailable", NetworkError),
        (503, "SlowDown", Throttled),
        (429, "TooManyRequests", Throttled),
        (400, "RequestTimeout", NetworkError),
    ],
)
def test_what_passes_by_itself_is_tried_again(
    s3_store: Store,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    error: type[ReelflowError],
) -> None:
    monkeypatch.setenv("REELFLOW_S3__MAX_ATTEMPTS", "3")
    proxy.answer = lambda request: (status, code, "")
    for action in (WRITES[0], READS[0], READS[3]):
        proxy.seen.clear()
        with pytest.raises(error):
            action(s3_store)
        assert len(proxy.seen) == 3
    with pytest.raises(TransientError):
        s3_store.size("x")


def test_an_endpoint_that_cannot_be_reached(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_S3__MAX_ATTEMPTS", "2")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(NetworkError, match="AWS_ENDPOINT_URL"):
            open_store("s3://bucket/x").read("y")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    assert "http(s)://host:port" in refusal(open_store("s3://bucket/x"), READS[0])


def test_doctor_says_the_same(as_user: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_STORE", as_user("reader").root)
    check = doctor.check_store()
    assert check.state == "fault"
    assert "s3:PutObject" in check.advice
    monkeypatch.setenv("REELFLOW_STORE", as_user("writer").root)
    assert doctor.check_store().state == "ok"
    monkeypatch.setenv("REELFLOW_STORE", "s3://key:hush@bucket/x")
    assert "hush" not in repr(doctor.check_store())


def test_sources_that_are_refused(as_user: Callable[..., Store], tmp_path: Path) -> None:
    """Bad credentials are a fault of the installation; an object that these may not read is set aside."""
    as_user("writer").write("in.mp4", b"media")

    def read(source: str = "s3://media/store/in.mp4") -> bytes:
        return fetch(source, tmp_path / os.urandom(4).hex(), LimitOptions(), 2**20).path.read_bytes()

    assert read() == b"media"
    as_user("writer", AWS_SECRET_ACCESS_KEY="wrong")
    with pytest.raises(CredentialsRefused, match="SignatureDoesNotMatch"):
        read()
    as_user("reader")
    assert read() == b"media"
    with pytest.raises(PermissionDenied, match="policy"):
        read("s3://elsewhere/x.mp4")


def test_setup_errors_are_not_media_errors() -> None:
    assert issubclass(StoreUnavailable, SetupError)
    assert issubclass(CredentialsRefused, SetupError)
