"""Pools, variable, automations and blocks on a real server: made once, unchanged the second time, never secret."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.workers.process import ProcessWorker

from deployments.pools import KINDS, pool, worker_template
from flows.runtime.dask_security import tls_environment
from tasks.core.errors import SetupError
from tests.deployments.conftest import Server

SETTINGS = {
    "REELFLOW_STORE": "s3://media/reelflow",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "do-not-show-this",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "REELFLOW_IMAGE": "registry.example/reelflow:1.2",
    "REELFLOW_DOCKER_NETWORK": "media",
    "REELFLOW_ECS_CLUSTER": "media-cluster",
    "REELFLOW_ECS_EXECUTION_ROLE": "arn:aws:iam::123456789012:role/reelflow",
    "REELFLOW_NOTIFY_URL": "https://hooks.example/secret-path",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_fits_its_worker(kind: str) -> None:
    """Every placeholder of the job has a variable, every variable is the worker's own, and no key is dropped."""
    ours, theirs = pool(kind, SETTINGS).base_job_template, worker_template(kind)
    assert set(ours["variables"]["properties"]) == set(theirs["variables"]["properties"])
    used = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", json.dumps(ours["job_configuration"])))
    assert used == set(re.findall(r"\{\{\s*(\w+)\s*\}\}", json.dumps(theirs["job_configuration"])))
    assert ours["variables"]["properties"]["env"]["default"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_the_installed_workers_accept_our_templates(server: Server) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect_aws.workers import ECSWorker

    def configured(worker: Any) -> Any:
        template = pool(worker.type, SETTINGS).base_job_template
        return asyncio.run(worker.job_configuration.from_template_and_values(template, {}))

    with temporary_settings({PREFECT_API_URL: server.api_url}):
        process, task = configured(ProcessWorker), configured(ECSWorker)
    assert process.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert task.cluster == "media-cluster"
    [container] = task.task_definition["containerDefinitions"]
    assert container["image"] == "registry.example/reelflow:1.2"


def test_a_pool_that_could_start_nothing_is_refused_with_what_is_missing() -> None:
    with pytest.raises(SetupError, match="needs REELFLOW_ECS_CLUSTER and REELFLOW_ECS_EXECUTION_ROLE"):
        pool("ecs", {})


def test_containers_are_told_where_things_are_and_nothing_secret() -> None:
    for kind in KINDS:
        text = json.dumps(pool(kind, SETTINGS).base_job_template)
        assert "do-not-show-this" not in text
        assert "AKIDEXAMPLE" not in text
        assert ("s3://media/reelflow" in text) == (kind != "process")
    assert pool("docker", SETTINGS).base_job_template["variables"]["properties"]["networks"]["default"] == ["media"]


@pytest.mark.parametrize(("kind", "named"), [("docker", True), ("ecs", True), ("kubernetes", False)])
def test_runs_in_containers_are_told_where_the_certificate_is_and_never_what_is_in_it(kind: str, named: bool) -> None:
    """In Kubernetes a ConfigMap says it."""
    certificate = tls_environment(Path("/etc/reelflow/tls"))
    env = pool(kind, SETTINGS | certificate).base_job_template["variables"]["properties"]["env"]["default"]
    assert (certificate.items() <= env.items()) is named
    assert named or not certificate.keys() & env.keys()
    if named:
        with pytest.raises(SetupError, match="name a file"):
            pool(kind, SETTINGS | dict.fromkeys(certificate, "-----BEGIN PRIVATE KEY-----\n..."))


def test_kubernetes_jobs_run_as_an_ordinary_user() -> None:
    pod = pool("kubernetes", {}).base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["image"] == "{{ image }}"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {"secretRef": {"name": "reelflow", "optional": True}} in container["envFrom"]


def test_a_variable_that_the_worker_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from deployments import pools

    monkeypatch.setattr(
        pools, "worker_template", lambda kind: {"variables": {"properties": {"env": {"type": "object"}}}}
    )
    with pytest.raises(SetupError, match=r"docker\.yaml sets 'image', which the docker worker does not have"):
        pool("docker", {})


def test_a_dry_run_changes_nothing_and_a_second_time_nothing_is_left_to_do(server: Server, api: httpx.Client) -> None:
    def state() -> Any:
        pools = api.post("/work_pools/filter", json={}).json()
        automations = api.post("/automations/filter", json={}).json()
        return sorted(p["name"] for p in pools), sorted(a["name"] for a in automations)

    before = state()
    told = server.run("-m", "deployments", "apply", "--pool", "docker", "--dry-run", environment=SETTINGS)
    assert told.returncode == 0, told.stderr
    assert "created    work pool reelflow-docker" in told.stdout
    assert state() == before

    first = server.run("-m", "deployments", "apply", "--pool", "docker", environment=SETTINGS)
    assert first.returncode == 0, first.stderr
    assert "created    block s3-bucket/reelflow" in first.stdout
    assert "created    automation 'reelflow - failure notice'" in first.stdout
    second = server.run("-m", "deployments", "apply", "--pool", "docker", environment=SETTINGS)
    assert {line.split()[0] for line in second.stdout.splitlines()} == {"unchanged"}, second.stdout
    for said in (told, first, second):
        assert "do-not-show-this" not in said.stdout + said.stderr
        assert "secret-path" not in said.stdout + said.stderr

    newer = SETTINGS | {"REELFLOW_IMAGE": "x:2"}
    third = server.run("-m", "deployments", "apply", "--pool", "docker", environment=newer)
    assert "updated    work pool reelflow-docker: base_job_template" in third.stdout
    back = server.run("-m", "deployments", "apply", "--pool", "process", environment=SETTINGS)
    assert "updated    variable reelflow_pool: reelflow-process" in back.stdout
    assert "reelflow-kubernetes" not in state()[0]


def test_an_automation_that_was_switched_off_stays_off(server: Server, api: httpx.Client) -> None:
    assert server.run("-m", "deployments", "apply").returncode == 0
    name = "reelflow - crash flow runs without heartbeat"
    [found] = [a for a in api.post("/automations/filter", json={}).json() if a["name"] == name]
    api.patch(f"/automations/{found['id']}", json={"enabled": False}).raise_for_status()
    done = server.run("-m", "deployments", "apply")
    assert f"unchanged  automation '{name}'" in done.stdout, done.stdout
    assert api.get(f"/automations/{found['id']}").json()["enabled"] is False
    api.patch(f"/automations/{found['id']}", json={"enabled": True}).raise_for_status()


def test_an_unknown_pool_is_a_usage_error(server: Server) -> None:
    done = server.run("-m", "deployments", "apply", "--pool", "nomad")
    assert done.returncode == 2
    assert "process, docker, kubernetes, ecs" in " ".join(done.stderr.replace("│", " ").split())
