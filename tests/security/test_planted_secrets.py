"""Secrets of thirteen kinds, planted wherever Reelflow takes them from, are found nowhere after runs that failed."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tasks.core.models import bundled
from tests.fault_proxy import FaultProxy, Seen
from tests.flows.test_command_line import BUNDLED_SETS, flows
from tests.prefect_home import DATABASE, new_prefect_home, use_prefect_home

MARK = "hushhush"
"""In every secret below, and in nothing else that a run could tell of; four letters would be found in any base64."""

PASSWORD, TOKEN = "hushhush/1:of@a&user", "hushhush-2-token"
SIGNATURE, FRAGMENT = "hushhush-3-signature", "hushhush-4-fragment"
IN_VARIABLE, IN_BLOCK, IN_PATH = "hushhush-5-variable", "hushhush-6-secret-block", "hushhush-7-path"
AWS_KEY, AWS_SESSION, BLOCK_KEY = "hushhush/8/aws/secret", "hushhush/9/aws/session", "hushhush/10/block/secret"
OF_PREFECT, IN_FILE, FROM_SERVER = "hushhush-11-of-prefect", "hushhush-12-in-a-file", "hushhush-13-told-by-a-server"

STAGES = (
    "probe", "audio", "segments", "clips", "language", "transcript", "frames", "detections", "embeddings", "text_banks",
    "scenes", "description", "result.json", "tables",
)  # fmt: skip
"""Where the store refuses what a run writes, one run each."""


class Origin:
    """A web server that has the sample, and notes what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """Paths, with the credentials of the Authorization header."""
        self.stage = 0
        """Position in STAGES of the one that the run of the last request is to fail in."""

    @contextmanager
    def served(self) -> Iterator[str]:
        origin, content = self, bundled.SAMPLE_CLIP.read_bytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                credentials = self.headers.get("Authorization", "").removeprefix("Basic ")
                origin.asked.append((self.path, base64.b64decode(credentials).decode()))
                parts = urlsplit(self.path)
                if number := parse_qs(parts.query).get("stage"):
                    origin.stage = max(origin.stage, int(number[0]))
                whole = parts.path == "/clip.mp4"
                if whole and self.headers.get("If-None-Match") == '"1"':
                    return self.answer(304, b"")
                if parts.path.startswith("/hop"):
                    return self.answer(302, b"", Location=f"/gone.mp4?token={FROM_SERVER}")
                said = f"{self.path} is refused to {credentials}".encode()
                return self.answer(200, content) if whole else self.answer(403, said)

            def answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                told = {"ETag": '"1"', "Set-Cookie": f"session={FROM_SERVER}", "Content-Length": str(len(body))}
                for name, value in {**told, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body if status != 304 else b"")

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A Prefect server, and its home."""
    from flows.runtime import local_server

    home = new_prefect_home(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, home)
        patch.setattr(local_server, "new_auth", lambda: f"admin:{OF_PREFECT}")
        server = local_server.LocalServer()
        try:
            server.wait()
            patch.setenv("PREFECT_API_URL", server.api_url)
            yield server.api_url, home
        finally:
            server.stop()


def _save_blocks(api_url: str, bucket: str, endpoint: str, whole: str) -> None:
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect_aws import AwsCredentials
    from prefect_aws.client_parameters import AwsClientParameters
    from prefect_aws.s3 import S3Bucket
    from pydantic import SecretStr

    with temporary_settings({PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: f"admin:{OF_PREFECT}"}):
        saved: Any = Secret(value=SecretStr(whole))
        saved.save("in-block")
        credentials = AwsCredentials(
            aws_access_key_id="key",
            aws_secret_access_key=SecretStr(BLOCK_KEY),
            aws_session_token=BLOCK_KEY,
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(endpoint_url=endpoint),
        )
        bucketed: Any = S3Bucket(bucket_name=bucket, bucket_folder="store", credentials=credentials)
        bucketed.save("planted")


def test_planted_secrets_are_found_nowhere(
    api: tuple[str, Path], s3_environment: dict[str, str], tmp_path: Path
) -> None:
    api_url, home = api
    origin, refused = Origin(), Counter[str]()
    bucket = f"planted-{os.getpid()}"

    def answer(request: Seen) -> tuple[int, str, str] | None:
        path = urlsplit(request.path).path
        if "none.mp4" in path:
            return 403, "AccessDenied", f"{request.headers.get('x-amz-security-token')} {AWS_KEY}"
        # And those that come after it, for they run beside it: what is there is not made again, and does not fail.
        written = [stage for stage in STAGES[origin.stage :] if f"/{stage}/" in f"{path}/"]
        if request.method not in ("PUT", "POST") or not written:
            return None
        refused[written[0]] += 1
        return 403, "AccessDenied", f"{request.headers.get('x-amz-security-token')} may not, nor may {BLOCK_KEY}"

    bank = tmp_path / "bank.yaml"
    bank.write_text(f"name: mine\ntags: [a, b]\n{IN_FILE}: {{{IN_FILE}\n")
    with origin.served() as host, FaultProxy(s3_environment["AWS_ENDPOINT_URL"], answer=answer) as proxy:
        _make_bucket(proxy.url, bucket)
        _save_blocks(api_url, bucket, proxy.url, f"http://{IN_BLOCK}:x@{host}/{IN_PATH}/gone.mp4?key={IN_BLOCK}")
        environment = {
            "REELFLOW_ALLOW_PRIVATE_HOSTS": "true",
            "REELFLOW_DEBUG": "1",
            "REELFLOW_SECRET_IN_VARIABLE": f"http://u:{IN_VARIABLE}@{host}/{IN_PATH}/gone.mp4?x={IN_VARIABLE}",
            "REELFLOW_WORKERS": "2",
            "REELFLOW_WORKER_LOST_S": "20",
            "no_proxy": "127.0.0.1",
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": AWS_KEY,
            "AWS_SESSION_TOKEN": AWS_SESSION,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PREFECT_API_URL": api_url,
            "PREFECT_API_AUTH_STRING": f"admin:{OF_PREFECT}",
        }
        begins = f"http://us3r:{quote(PASSWORD, safe='')}@{host}"
        ends = f"token={TOKEN}&X-Amz-Signature={SIGNATURE}#{FRAGMENT}"
        sources = [f"{begins}/clip.mp4?stage={number}&{ends}" for number, _ in enumerate(STAGES)]
        sources += [f"{begins}/gone.mp4?{ends}", f"{begins}/hop?{ends}"]
        sources += ["secret://in-variable", "secret://in-block", f"s3://{bucket}/none.mp4"]
        told = [*BUNDLED_SETS, "--set", "embeddings.model=bundled"]
        store = ("--store", "s3-bucket/planted")
        given: dict[str, Any] = {"home": home, "environment": environment, "timeout": 500}
        runs = flows("analyze", *sources, *store, "--json", *told, **given)
        banks = flows("text-bank", bank, *store, *told, **given)
        reports = [json.loads(line) for line in runs.stdout.splitlines()]
        objects = dict(_objects(proxy.url, bucket))

    outcome = {stage: report["status"] for stage, report in zip(STAGES, reports, strict=False)}
    assert set(outcome.values()) == {"failed"}, (outcome, runs.stderr[-3000:])
    assert set(refused) == set(STAGES), refused
    assert [report["source"] for report in reports[len(STAGES) :]] == [
        f"http://{host}/gone.mp4", f"http://{host}/hop", "secret://in-variable", "secret://in-block",
        f"s3://{bucket}/none.mp4",
    ]  # fmt: skip
    assert {report["error"]["code"] for report in reports[len(STAGES) :]} == {"permission_denied"}
    used = {secret for _, secret in origin.asked} | {path for path, _ in origin.asked}
    assert {f"us3r:{PASSWORD}", f"u:{IN_VARIABLE}", f"{IN_BLOCK}:x", f"/gone.mp4?token={FROM_SERVER}"} <= used
    assert banks.returncode == 1
    assert f"{bank}: line 4, column " in banks.stderr

    places = {"stdout": runs.stdout + banks.stdout, "stderr": runs.stderr + banks.stderr}
    places |= {f"{bucket}/{path}": content for path, content in objects.items()}
    places |= {str(path): path.read_bytes().decode("latin-1") for path in _files(home)}
    places |= {f"table {table}": text for table, text in _rows(home / DATABASE)}
    assert "us3r" not in places["stdout"] + places["stderr"]
    assert [name for name in places if "clip.mp4" in places[name]], "this looks into what runs leave"
    assert [name for name in places if name.startswith(("table log", "table flow_run")) and "clip.mp4" in places[name]]
    secret = _any()
    found = {name: sorted(set(secret.findall(text))) for name, text in places.items() if secret.search(text)}
    assert not found, found


def test_workers_elsewhere_are_not_sent_what_a_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could be anybody's, and know only secrets of their own."""
    from flows.runtime.run import STAYS_HERE, analyze_sources

    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("REELFLOW_DASK_ADDRESS", "tcp://127.0.0.1:9")
    [report] = analyze_sources([f"https://us3r:{TOKEN}@host.invalid/a.mp4"], str(tmp_path / "store"), [])
    assert (report.status, report.error) == ("failed", {"code": "credentials", "message": STAYS_HERE})


def _any() -> re.Pattern[str]:
    """The mark, and what Basic authentication makes of each pair of user and password."""
    pairs = (f"us3r:{PASSWORD}", f"u:{IN_VARIABLE}", f"{IN_BLOCK}:x", f"admin:{OF_PREFECT}")
    encoded = [re.escape(base64.b64encode(pair.encode()).decode()) for pair in pairs]
    return re.compile("|".join([rf".{{0,40}}(?i:{MARK}).{{0,40}}", *encoded]))


def _make_bucket(endpoint: str, bucket: str) -> None:
    _client(endpoint).create_bucket(Bucket=bucket)


def _client(endpoint: str) -> Any:
    import boto3

    given = {"aws_access_key_id": "key", "aws_secret_access_key": "other", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=endpoint, **given)


def _objects(endpoint: str, bucket: str) -> Iterator[tuple[str, str]]:
    """Path, and name and content as text; Parquet is read, for it is compressed."""
    import pandas

    client = _client(endpoint)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            answer = client.get_object(Bucket=bucket, Key=item["Key"])
            content = answer["Body"].read()
            table = item["Key"].endswith(".parquet")
            text = pandas.read_parquet(io.BytesIO(content)).to_csv() if table else content.decode("latin-1")
            yield item["Key"], f"{item['Key']} {answer['Metadata']} {text}"


def _files(home: Path) -> Iterator[Path]:
    """What lies in Prefect's home and in Reelflow's cache; the database with its journal."""
    for path in home.rglob("*"):
        if path.is_file():
            yield path


def _rows(database: Path) -> Iterator[tuple[str, str]]:
    """Each table as text: a secret could lie across two pages of the file."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            yield name, "\n".join(map(str, connection.execute(f'SELECT * FROM "{name}"')))  # noqa: S608
