"""A store named by a saved Prefect block: its bucket, folder, endpoint and credentials, in any process, never shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from flows.runtime.local_server import prefect_api
from tasks.core.errors import NetworkError, StoreUnavailable
from tasks.core.schema import ArtifactRef
from tasks.records.artifacts import artifact_file, find, save
from tasks.store import open_store
from tests.prefect_home import new_prefect_home, use_prefect_home
from tests.source_tree import ROOT

SECRETS = {"key": "AKIAOFTHEBLOCK", "secret": "hush-secret", "token": "hush-token"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server with a database of its own."""
    home = new_prefect_home(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, home)
        with prefect_api():
            yield str(PREFECT_API_URL.value())


@pytest.fixture
def save_block(
    api: str, bucket: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., str]:
    """Saves a block and gives its address; afterwards the environment knows neither endpoint nor credentials."""
    from prefect_aws import AwsCredentials, MinIOCredentials
    from prefect_aws.client_parameters import AwsClientParameters
    from prefect_aws.s3 import S3Bucket

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    endpoint = AwsClientParameters(endpoint_url=s3_environment["AWS_ENDPOINT_URL"])

    def save(name: str, kind: str = "aws") -> str:
        credentials: Any
        if kind == "minio":
            credentials = MinIOCredentials(
                minio_root_user=SECRETS["key"],
                minio_root_password=SecretStr(SECRETS["secret"]),
                aws_client_parameters=endpoint,
            )
        else:
            credentials = AwsCredentials(
                aws_access_key_id=SECRETS["key"],
                aws_secret_access_key=SecretStr(SECRETS["secret"]),
                aws_session_token=SECRETS["token"],
                region_name="us-east-1",
                aws_client_parameters=endpoint,
            )
        S3Bucket(bucket_name=bucket, bucket_folder="in/folder/", credentials=credentials).save(name, overwrite=True)
        return f"s3-bucket/{name}"

    return save


@pytest.mark.parametrize("kind", ["aws", "minio"])
def test_a_block_opens_its_bucket(save_block: Callable[..., str], bucket: str, raw: Any, kind: str) -> None:
    address = save_block(f"of-{kind}", kind)
    store = open_store(address)
    assert (store.address, store.root) == (address, f"s3://{bucket}/in/folder")
    store.commit("result.json", b"1", None)
    assert raw.get_object(Bucket=bucket, Key="in/folder/result.json")["Body"].read() == b"1"
    assert store.guarantee == "atomic"
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
        open_store(store.root).read("result.json")


def test_an_artifact_is_found_by_its_reference_alone_in_another_process(
    save_block: Callable[..., str], api: str, tmp_path: Path
) -> None:
    store = open_store(save_block("shared"))
    key = "0" * 32
    made = ArtifactRef(
        media_id="m", stage="s", key=key, uri=store.uri(f"media/m/s/{key}"), store=store.address, finished=1.0
    )
    with store.workspace() as work:
        (work / "a.json").write_bytes(b"content")
        save(store, made, work)
    found = find(store, "m", "s", key)
    assert found is not None
    assert artifact_file(found, "a.json").read_bytes() == b"content"
    program = (
        "import sys; from tasks.records.artifacts import artifact_file; from tasks.core.schema import ArtifactRef; "
        "print(artifact_file(ArtifactRef.model_validate_json(sys.argv[1]), 'a.json').read_text())"
    )
    worker = {"PREFECT_API_URL": api, "REELFLOW_CACHE_DIR": str(tmp_path / "other host"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, found.model_dump_json()],
        env=os.environ | worker,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "content", done.stderr
    shown = [done.stderr, found.model_dump_json(), repr(store), str(vars(store))]
    shown += [path.read_text() for path in tmp_path.rglob("*.json")]
    for secret in SECRETS.values():
        assert not [text for text in shown if secret in text]


def test_a_block_that_is_not_there_says_what_to_do(api: str, clean_aws: None) -> None:
    with pytest.raises(StoreUnavailable, match="prefect block register -m prefect_aws"):
        open_store("s3-bucket/nobody")


def test_an_api_that_cannot_be_reached_is_transient(clean_aws: None) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(NetworkError, match="PREFECT_API_URL"),
    ):
        open_store("s3-bucket/any")


def test_who_names_no_block_does_not_import_prefect_aws() -> None:
    program = (
        "import sys; from tasks.store import open_store; open_store('s3://b/x'); print('prefect_aws' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
