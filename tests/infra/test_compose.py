"""compose.yaml against the Compose specification's own schema, and what the schema cannot say."""

from __future__ import annotations

import json
import re
import string
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flows.runtime.dask_security import tls_environment
from tests.infra.manifests import INFRA, compose, interpolated, settings_example, variables

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
ONE_SHOT = {"dask-certificates", "minio-init", "prefect-init"}
CERTIFICATE = tls_environment(Path("/etc/reelflow/tls"))
"""Names files, and holds none."""
TEXT = (INFRA / "compose.yaml").read_text("utf-8")
SECRETS = {
    "MINIO_ROOT_PASSWORD",
    "REELFLOW_S3_KEY",
    "REELFLOW_S3_SECRET",
    "POSTGRES_PASSWORD",
    "REELFLOW_PREFECT_AUTH",
    "REELFLOW_WATCH_TOKEN",
}


def schema() -> jsonschema.Draft202012Validator:
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def resolved(**environment: str) -> dict[str, Any]:
    given = dict.fromkeys(SECRETS, "x") | environment
    found: dict[str, Any] = interpolated(compose(), given)
    return found


def test_it_fits_the_compose_specification() -> None:
    assert not [error.message for error in schema().iter_errors(resolved())]


def test_a_misspelt_key_would_be_found() -> None:
    wrong = resolved()
    wrong["services"]["minio"]["healthchek"] = {}
    with pytest.raises(jsonschema.ValidationError):
        schema().validate(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert "docker.sock" not in str(service)
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["deploy"]["resources"]["limits"]["memory"]


def test_ports_are_bound_to_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_a_service_waits_for_can_come_true() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
            assert wait == {"condition": wanted}
            assert not SERVICES[name].get("profiles"), "a service of a profile may not be there"
    order = {name: set(service.get("depends_on", ())) for name, service in SERVICES.items()}
    while ready := {name for name, waits in order.items() if not waits}:
        order = {name: waits - ready for name, waits in order.items() if name not in ready}
    assert order == {}, "services wait for each other"


def test_secrets_must_be_set_and_stand_nowhere() -> None:
    assert {name for name, (operator, _) in variables(TEXT).items() if operator == ":?"} == SECRETS
    for name, (operator, rest) in variables(TEXT).items():
        if operator == ":?":
            assert rest.startswith(f"set {name} in infra/.env")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_KEY|AUTH|TOKEN", name):
                assert str(value).startswith("${") or (name in CERTIFICATE and value == CERTIFICATE[name]), name


def test_the_example_has_every_variable_and_no_secret() -> None:
    example = settings_example()
    assert {name for name, value in example.items() if not value} == SECRETS
    commented = set(re.findall(r"^#(\w+)=", (INFRA / ".env.example").read_text("utf-8"), re.MULTILINE))
    images = {name for name in variables(TEXT) if name.endswith("_IMAGE")}
    assert set(example) | commented | images | {"MINIO_ROOT_USER"} == set(variables(TEXT)) | {"COMPOSE_PROFILES"}
    for name, (operator, rest) in variables(TEXT).items():
        if operator == ":-" and name in example:
            assert rest == example[name], name


def test_the_file_with_the_secrets_is_ignored() -> None:
    assert ".env" in (INFRA / ".gitignore").read_text("utf-8").splitlines()


def test_everything_of_ours_runs_the_image_that_is_built() -> None:
    ours = {name: s for name, s in resolved()["services"].items() if s["image"].startswith("reelflow:")}
    assert {s["image"] for s in ours.values()} == {"reelflow:cpu", "reelflow:gpu"}
    built = {s["image"]: s["build"]["target"] for s in ours.values() if "build" in s}
    assert built == {"reelflow:cpu": "cpu", "reelflow:gpu": "gpu"}
    for service in ours.values():
        if "build" in service:
            assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_exactly_one_kind_of_gpu_worker_runs_in_each_profile() -> None:
    kinds = {name: service["profiles"] for name, service in SERVICES.items() if "GPU=1" in service.get("command", ())}
    assert kinds == {"dask-worker-gpu-on-cpu": ["cpu"], "dask-worker-gpu": ["gpu"]}
    [device] = SERVICES["dask-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_minio_tells_the_watcher_with_the_token_that_it_knows() -> None:
    services = resolved()["services"]
    minio, watcher = services["minio"]["environment"], services["watcher"]
    target = {name.removesuffix("_WATCHER"): value for name, value in minio.items() if name.endswith("_WATCHER")}
    port = watcher["command"][watcher["command"].index("--listen") + 1].rpartition(":")[2]
    assert target["MINIO_NOTIFY_WEBHOOK_ENDPOINT"] == f"http://watcher:{port}/events"
    assert TEXT.count("${REELFLOW_WATCH_TOKEN:?") == 2
    assert target["MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN"] == watcher["environment"]["REELFLOW_WATCH_TOKEN"]
    [init] = services["minio-init"]["command"]
    prefix = watcher["command"][4].removeprefix("s3://reelflow/")
    assert f'--prefix {prefix} "store/$BUCKET" arn:minio:sqs::WATCHER:webhook' in init


def test_prefect_is_on_postgres_and_nobody_else_reaches_it() -> None:
    environment = SERVICES["prefect-server"]["environment"]
    assert environment["PREFECT_SERVER_DATABASE_DRIVER"] == "postgresql+asyncpg"
    assert environment["PREFECT_SERVER_DATABASE_HOST"] in SERVICES
    assert {name for name, service in SERVICES.items() if "database" in service.get("networks", ())} == {
        "postgres",
        "prefect-server",
    }
    assert compose()["networks"]["database"] == {"internal": True}


def test_nobody_starts_runs_without_the_auth_string() -> None:
    found = {name: resolved(REELFLOW_PREFECT_AUTH="u:p")["services"][name]["environment"] for name in SPEAKING}
    assert found["prefect-server"]["PREFECT_SERVER_API_AUTH_STRING"] == "u:p"
    for name in SPEAKING - {"prefect-server"}:
        assert found[name]["PREFECT_API_AUTH_STRING"] == "u:p"
    assert "flows.runtime.embedded_server" in SERVICES["prefect-server"]["command"], "Prefect's own takes any Host"
    assert "prefect-server" in SERVICES["prefect-server"]["command"]
    assert "flows.runtime.dashboard_guard" in SERVICES["dask-scheduler"]["command"]


SPEAKING = {name for name in SERVICES if name.startswith(("prefect-", "dask-"))} - {"dask-certificates"}


def test_dask_speaks_to_who_has_the_certificate_only() -> None:
    """Every service that speaks to Dask: the scheduler, the workers, and the flow runs of the Prefect worker."""
    made = SERVICES["dask-certificates"]
    assert made["volumes"] == ["certificates:/etc/reelflow/tls"]
    speaking = SPEAKING - {"prefect-server", "prefect-init"}
    assert len(speaking) == 5
    for name in speaking:
        assert "certificates:/etc/reelflow/tls:ro" in SERVICES[name]["volumes"]
        assert CERTIFICATE.items() <= SERVICES[name]["environment"].items()
        assert "tcp://" not in str(SERVICES[name])


def test_the_stores_user_may_do_what_the_stores_role_may() -> None:
    """MinIO's policy and Terraform's: same actions, on this bucket only."""
    ours = json.loads(resolved()["configs"]["store-policy"]["content"])
    theirs = (INFRA / "terraform" / "policies" / "read-write-store.json").read_text("utf-8")
    wanted = json.loads(
        string.Template(theirs).substitute(store_bucket_arn="arn:aws:s3:::reelflow", store_prefix="store")
    )
    for mine, other in zip(ours["Statement"], wanted["Statement"], strict=True):
        assert sorted(mine["Action"]) == sorted(other["Action"])
    assert [s["Resource"] for s in ours["Statement"]] == [["arn:aws:s3:::reelflow"], ["arn:aws:s3:::reelflow/*"]]
