"""A page in the browser of someone who runs `make up`, or another user of the host, against the store of the stack."""

from __future__ import annotations

import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deployments import processes, stack
from tasks.core.ports import free_port

STARTS_S = 180.0
PAGE = {"Origin": "http://pages.example", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"}
REFUSED = r"InvalidAccessKeyId|SignatureDoesNotMatch"
OURS = {"store/media/0/result.json": b"the result", "inbox/talk.mp4": b"the media"}


class _Found(Exception):
    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        super().__init__()
        self.command, self.environment = command, environment


@dataclass
class Served:
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    folder: Path

    @property
    def url(self) -> str:
        return self.environment["AWS_ENDPOINT_URL"]

    def client(self, key: str = "", secret: str = "") -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key or self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret or self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
        )

    def contents(self) -> dict[str, bytes]:
        """All that lies in the bucket, as its owner reads it."""
        s3 = self.client()
        listed = s3.list_objects_v2(Bucket=stack.BUCKET).get("Contents", [])
        return {o["Key"]: s3.get_object(Bucket=stack.BUCKET, Key=o["Key"])["Body"].read() for o in listed}

    def listening(self) -> list[tuple[str, int]]:
        """Addresses of the server and of what it has started."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        found = [connection for process in family for connection in process.net_connections("inet")]
        return sorted({tuple(each.laddr) for each in found if each.status == psutil.CONN_LISTEN})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The store as `up` starts it, and nothing else of the stack; it holds OURS."""
    folder = tmp_path_factory.mktemp("up") / "stack"
    start = processes.start

    def only_the_store(name: str, command: Sequence[str], environment: dict[str, str], folder: Path) -> Any:
        if name == "s3":
            raise _Found(command, environment)
        return start(name, ["sleep", "600"], environment, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start", only_the_store)
        ports = stack.Ports(**{name: free_port() for name in stack.Ports.model_fields})
        with pytest.raises(_Found) as found:
            stack.up(ports, folder)
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            found.value.command, cwd=folder, env=found.value.environment, stdout=log, stderr=log, start_new_session=True
        )
    served = Served(process, found.value.environment, folder)
    try:
        _fill(served)
        yield served
    finally:
        served.process.terminate()  # a test may have started another
        served.process.wait(30)


def _fill(served: Served) -> None:
    deadline, s3 = time.monotonic() + STARTS_S, served.client()
    while True:
        try:
            s3.create_bucket(Bucket=stack.BUCKET)
            for key, content in OURS.items():
                s3.put_object(Bucket=stack.BUCKET, Key=key, Body=content)
            return
        except (BotoCoreError, ClientError):
            assert served.process.poll() is None, (served.folder / "s3.log").read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_what_a_page_sends_changes_nothing_and_shows_nothing(served: Served) -> None:
    bucket, planted = f"{served.url}/{stack.BUCKET}", "<script>planted</script>"
    form = {"key": "store/media/0/report.html", "acl": "public-read"}
    delete = f"<Delete><Object><Key>{next(iter(OURS))}</Key></Object></Delete>"
    plain = {"Content-Type": "text/plain"}
    shown = []
    with httpx.Client(headers=PAGE, timeout=30) as page:
        for method, url, more in (
            ("POST", f"{served.url}/moto-api/reset", {}),
            ("POST", f"{served.url}/moto-api/data.json", {}),
            ("POST", bucket, {"data": form, "files": {"file": ("report.html", planted, "text/html")}}),
            ("POST", f"{bucket}?delete", {"content": delete, "headers": plain}),
            ("POST", f"{bucket}/store/media/0/report.html?uploads", {"headers": plain}),
            ("POST", f"{served.url}/", {"data": {"Action": "CreateUser", "UserName": "page", "Version": "2010-05-08"}}),
            ("PUT", f"{bucket}/store/media/0/report.html", {"content": planted}),
            ("PUT", f"{bucket}?policy", {"content": '{"Statement": []}'}),
            ("DELETE", f"{bucket}/{next(iter(OURS))}", {}),
            ("DELETE", bucket, {}),
            ("GET", f"{bucket}/{next(iter(OURS))}", {}),
            ("GET", bucket, {}),
        ):
            answer = page.request(method, url, **more)
            shown.append(f"{method} {url}: {answer.status_code}" if answer.status_code < 400 else "")
            assert OURS[next(iter(OURS))] not in answer.content
    assert served.contents() == OURS
    assert [line for line in shown if line] == []


@pytest.mark.parametrize(
    "known", [("reelflow", "reelflow-local"), ("test", "test"), ("admin", "admin"), ("any", "any")]
)
def test_no_key_can_be_guessed(served: Served, known: tuple[str, str]) -> None:
    with pytest.raises(ClientError, match=REFUSED):
        served.client(*known).list_objects_v2(Bucket=stack.BUCKET)
    with pytest.raises(ClientError, match=REFUSED):
        served.client(secret="guessed").delete_object(Bucket=stack.BUCKET, Key=next(iter(OURS)))
    assert served.contents() == OURS


def test_every_port_is_on_loopback_and_only_that_of_s3_answers_who_has_no_certificate(served: Served) -> None:
    addresses = served.listening()
    assert {host for host, _ in addresses} == {"127.0.0.1"}
    others = [port for _, port in addresses if not served.url.endswith(f":{port}")]
    assert len(others) == 7, "master, volume and filer listen twice, S3 once more, for gRPC"
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    for port in others:
        for protocol, request in (
            ("http/1.1", f"PUT /buckets/{stack.BUCKET}/planted HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
            ("h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
        ):
            stranger.set_alpn_protocols([protocol])
            assert _answer(port, request, stranger) == b"", (port, protocol)
            assert not _answer(port, request).startswith(b"HTTP/1.1 2"), (port, protocol)
    assert served.contents() == OURS


def _answer(port: int, request: str, tls: ssl.SSLContext | None = None) -> bytes:
    """What comes back to who has no certificate; nothing where the connection is refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            connection = tls.wrap_socket(plain) if tls else plain
            connection.sendall(request.encode())
            connection.settimeout(60)
            return connection.recv(1000)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_nobody_else_can_read_its_keys_or_its_objects(served: Served) -> None:
    store = served.folder / "s3"
    assert [oct(path.stat().st_mode & 0o777) for path in (served.folder, store / "data", store / "run")] == [
        "0o700"
    ] * 3
    secrets_in = [path for path in (store / "run").iterdir() if path.is_file()]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in secrets_in} == {
        path.name: "0o600" for path in secrets_in
    }
    assert {"keys.json", "key.pem"} <= {path.name for path in secrets_in}
    lines = [process.cmdline() for process in psutil.Process(served.process.pid).children(recursive=True)]
    assert served.environment["AWS_SECRET_ACCESS_KEY"] not in str(lines)
    assert len(served.environment["AWS_SECRET_ACCESS_KEY"]) >= 40


def test_its_data_outlives_it_and_its_keys_do_not(served: Served) -> None:
    """Last in this file: the server is ended, and killed, and started on what it left."""
    old = dict(served.environment)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = [port for _, port in served.listening()]
        family = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(number)
        served.process.wait(30)
        for process in family:  # what `down` does with what carries the id of the stack
            process.kill() if number == signal.SIGKILL else process.wait(0)
        if number == signal.SIGTERM:
            assert not [
                path for path in Path("/tmp").glob("seaweedfs-*.sock") if any(str(p) in path.name for p in left)
            ]
        served.environment["AWS_SECRET_ACCESS_KEY"] = secrets.token_urlsafe(30)
        with (served.folder / "s3.log").open("ab") as log:
            served.process = subprocess.Popen(
                served.process.args, cwd=served.folder, env=served.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                assert served.contents() == OURS
                break
            except (BotoCoreError, ClientError):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            served.client(secret=old["AWS_SECRET_ACCESS_KEY"]).list_objects_v2(Bucket=stack.BUCKET)
