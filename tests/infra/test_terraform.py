"""The Terraform files, parsed, and the policies, enforced: the store works with them and nothing else does."""

from __future__ import annotations

import json
import re
import shutil
import string
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import hcl2
import httpx
import pytest
import yaml
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests.infra.manifests import INFRA
from tests.source_tree import ROOT

FOLDER = INFRA / "terraform"
POLICIES = {path.stem: path for path in sorted((FOLDER / "policies").glob("*.json"))}
VALUES = {
    "source_bucket_arn": "arn:aws:s3:::recordings",
    "source_prefix": "uploads/",
    "store_bucket_arn": "arn:aws:s3:::store-bucket",
    "store_prefix": "store",
}
ANYWHERE = {
    "ecr:GetAuthorizationToken",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecs:DescribeTaskDefinition",
    "ecs:DeregisterTaskDefinition",
    "ecs:RegisterTaskDefinition",
}
"""Actions that IAM cannot narrow to a resource, or not in every partition."""


def policy(name: str, **values: str) -> dict[str, Any]:
    """A policy as `templatefile` renders it: `${name}` is all that is used of its language."""
    text = string.Template(POLICIES[name].read_text("utf-8"))
    rendered: dict[str, Any] = json.loads(text.substitute({name: name for name in text.get_identifiers()} | values))
    return rendered


@cache
def _files() -> dict[str, dict[str, Any]]:
    return {path.name: hcl2.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.tf"))}


def blocks(kind: str) -> dict[str, dict[str, Any]]:
    """Resources as `type.name`, variables and outputs by name."""
    found: dict[str, dict[str, Any]] = {}
    for content in _files().values():
        for entry in content.get(kind, ()):
            for first, inner in entry.items():
                if kind in ("resource", "data"):
                    found |= {f"{_bare(first)}.{_bare(name)}": body for name, body in inner.items()}
                else:
                    found[_bare(first)] = inner
    return found


def _bare(name: str) -> str:
    return name.strip('"')


def text() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(FOLDER.glob("*.tf")))


def test_nothing_public_can_come_of_the_bucket() -> None:
    block = blocks("resource")["aws_s3_bucket_public_access_block.store"]
    switches = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert [block[name] for name in switches] == [True] * 4
    assert "acl" not in blocks("resource")["aws_s3_bucket.store"]
    for statement in policy("bucket")["Statement"]:
        assert statement["Effect"] == "Deny"


def test_the_bucket_is_encrypted_versioned_and_cleaned() -> None:
    found = blocks("resource")
    assert _bare(found["aws_s3_bucket_versioning.store"]["versioning_configuration"][0]["status"]) == "Enabled"
    [rule] = found["aws_s3_bucket_server_side_encryption_configuration.store"]["rule"]
    assert "AES256" in rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"]
    rules = found["aws_s3_bucket_lifecycle_configuration.store"]["rule"]
    assert [r for r in rules if "abort_incomplete_multipart_upload" in r and _bare(r["status"]) == "Enabled"]
    assert not [r for r in rules for expiry in r.get("expiration", ()) if "days" in expiry], "results never expire"


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "bucket"])
def test_a_policy_allows_named_actions_on_named_things(name: str) -> None:
    for statement in policy(name, **VALUES)["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        assert "NotAction" not in statement
        assert "NotResource" not in statement
        if "*" in statement["Resource"]:
            assert set(statement["Action"]) <= ANYWHERE
        if "iam:PassRole" in statement["Action"]:
            assert statement["Condition"]["StringEquals"]["iam:PassedToService"] == "ecs-tasks.amazonaws.com"


def test_each_policy_file_is_used_and_gets_every_value() -> None:
    calls = re.findall(r'templatefile\("\$\{path\.module\}/policies/([\w-]+)\.json", \{(.*?)\}\)', text(), re.DOTALL)
    assert sorted(name for name, _ in calls) == sorted(POLICIES)
    for name, given in calls:
        wanted = set(string.Template(POLICIES[name].read_text("utf-8")).get_identifiers())
        assert set(re.findall(r"(\w+)\s*=", given)) == wanted


def test_every_variable_says_what_it_is_and_is_used() -> None:
    for name, body in blocks("variable").items():
        assert len(_bare(body["description"])) > 10
        assert "type" in body
        assert f"var.{name}" in text().replace(f"condition     = var.{name}", "")
    assert all("description" in body for body in blocks("output").values())
    assert set(re.findall(r"\bvar\.(\w+)", text())) == set(blocks("variable"))


def test_the_example_names_every_variable_without_a_default() -> None:
    example = hcl2.loads((FOLDER / "terraform.tfvars.example").read_text("utf-8"))
    required = {name for name, body in blocks("variable").items() if "default" not in body}
    assert required <= set(example) <= set(blocks("variable"))


def test_roles_and_logs_are_for_the_tasks_that_the_pool_makes() -> None:
    pool = yaml.safe_load((ROOT / "deployments" / "pools" / "ecs.yaml").read_text("utf-8"))
    assert f'family             = "{pool["variables"]["family"]}"' in text()
    assert _bare(blocks("variable")["flow_log_group"]["default"]) == "prefect"
    said = {
        value for body in blocks("output").values() for value in re.findall(r"REELFLOW_ECS_\w+", body["description"])
    }
    assert said == {name for name in pool["from_environment"].values() if name.startswith("REELFLOW_ECS_")}


def test_secrets_come_by_reference() -> None:
    worker = blocks("resource")["aws_ecs_task_definition.worker"]["container_definitions"]
    assert "valueFrom" in worker
    assert not [name for name in blocks("variable") if re.search("password|token|api_key$|secret$", name)]


def test_terraform_formats_and_parses_them(tmp_path: Path) -> None:
    """`validate` needs the provider, which comes from Terraform's registry; syntax and variables need nothing."""
    if not shutil.which("terraform"):
        pytest.skip("no terraform here")
    check = ["terraform", "fmt", "-check", "-recursive", "-diff", str(FOLDER)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(FOLDER / "variables.tf", tmp_path)
    plan = ["terraform", f"-chdir={tmp_path}", "plan", "-input=false", "-no-color", "-lock=false"]
    plan += [f"-var-file={FOLDER / 'terraform.tfvars.example'}"]
    good = subprocess.run(plan, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0, good.stderr
    wrong = [
        "-var=source_prefix=uploads",
        "-var=image=reelflow:cpu",
        "-var=kms_key_arn=alias/x",
        "-var=store_prefix=/a",
    ]
    bad = subprocess.run([*plan, *wrong], capture_output=True, text=True, timeout=60)
    assert bad.stderr.count("Invalid value for variable") == len(wrong)


@pytest.fixture(scope="module")
def accounts() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of two S3 clients: may do all; has the policies of the role `task`, which moto enforces."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    place = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    root = place | {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
    iam = boto3.client("iam", **root)
    iam.create_user(UserName="task")
    for name in ("read-source", "read-write-store"):
        iam.put_user_policy(UserName="task", PolicyName=name, PolicyDocument=json.dumps(policy(name, **VALUES)))
    key = iam.create_access_key(UserName="task")["AccessKey"]
    s3 = boto3.client("s3", **root)
    for bucket, path in (("recordings", "uploads/a.mp4"), ("recordings", "private/b.mp4"), ("store-bucket", "other/c")):
        if bucket not in [found["Name"] for found in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=path, Body=b"x")
    httpx.post(f"{place['endpoint_url']}/moto-api/reset-auth", content="0").raise_for_status()
    task = place | {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    try:
        yield root, task
    finally:
        httpx.post(f"{place['endpoint_url']}/moto-api/reset-auth", content="inf").raise_for_status()
        server.stop()


def test_a_task_can_do_what_the_store_does(accounts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    s3 = boto3.client("s3", **accounts[1])
    assert s3.get_object(Bucket="recordings", Key="uploads/a.mp4")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket="recordings", Prefix="uploads/")["KeyCount"] == 1
    place = {"Bucket": "store-bucket", "Key": "store/media/1/result.json"}
    with pytest.raises(ClientError, match="404"):
        s3.head_object(**place)
    s3.put_object(**place, Body=b"{}", IfNoneMatch="*")
    upload = s3.create_multipart_upload(**place)["UploadId"]
    s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"x")
    assert len(s3.list_parts(**place, UploadId=upload)["Parts"]) == 1
    s3.abort_multipart_upload(**place, UploadId=upload)
    assert s3.list_objects_v2(Bucket="store-bucket", Prefix="store/")["KeyCount"] == 1
    s3.delete_object(**place)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("get_object", {"Bucket": "recordings", "Key": "private/b.mp4"}),
        ("put_object", {"Bucket": "recordings", "Key": "uploads/a.mp4", "Body": b""}),
        ("delete_object", {"Bucket": "recordings", "Key": "uploads/a.mp4"}),
        ("get_object", {"Bucket": "store-bucket", "Key": "other/c"}),
        ("put_object", {"Bucket": "store-bucket", "Key": "other/c", "Body": b""}),
        ("delete_bucket", {"Bucket": "store-bucket"}),
        ("put_bucket_policy", {"Bucket": "store-bucket", "Policy": "{}"}),
        ("put_object_acl", {"Bucket": "store-bucket", "Key": "store/x", "ACL": "public-read"}),
    ],
)
def test_a_task_can_do_nothing_else(
    accounts: tuple[dict[str, Any], dict[str, Any]], operation: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(boto3.client("s3", **accounts[1]), operation)(**arguments)
