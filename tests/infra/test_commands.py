"""What the containers run exists: every command line of compose and Kubernetes is parsed by its own program."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from deployments.pools import KINDS, pool_name
from tasks.settings import Settings
from tasks.workers.threads import LIBRARIES
from tests.command_lines import parsed
from tests.infra.manifests import INFRA, VARIANTS, commands, compose, kubernetes, pod_specs

COMMANDS = commands()
SERVER, WATCHER = "python -m flows.runtime.embedded_server", "python -m flows watch"
OWN_HEALTH = {
    "dask scheduler": "8787",
    "dask worker": "8790",
    SERVER: "4200",
    "prefect worker": "8080",
    WATCHER: "8720",
}
"""Port that each program of the image answers /health on."""


def programs(words: list[str]) -> list[list[str]]:
    """The programs of a command line; those of `sh -euc "a && exec b"` are a and b."""
    if words[0] != "sh":
        return [words]
    assert words[1] == "-euc"
    return [shlex.split(part.removeprefix("exec ")) for part in words[2].split(" && ")]


@pytest.mark.parametrize("where", COMMANDS)
def test_a_command_line_is_understood_by_its_program(where: str) -> None:
    found = programs(COMMANDS[where])
    assert found
    assert all(isinstance(parsed(words), dict) for words in found)


def test_an_unknown_option_would_be_found() -> None:
    with pytest.raises(Exception, match="preload"):
        parsed(["dask", "worker", "--nthread-count", "1"])
    with pytest.raises(Exception, match="poool"):
        parsed(["prefect", "worker", "start", "--poool", "x"])
    with pytest.raises(Exception, match="kind"):
        parsed(["python", "-m", "deployments", "apply", "--kind", "x"])


@pytest.mark.parametrize("where", [name for name, words in COMMANDS.items() if words[:2] == ["dask", "worker"]])
def test_a_worker_offers_one_resource_and_is_warm_before_its_first_task(where: str) -> None:
    options = parsed(COMMANDS[where])
    assert options["preload"] == ("tasks.preload",)
    assert options["resources"] in ("CPU=1", "GPU=1")
    assert (str(options["n_workers"]), options["nthreads"]) == ("1", 1)
    assert options["memory_limit"] == "0", "by default Dask divides the host's memory by its cores"


@pytest.mark.parametrize("where", [name for name, words in COMMANDS.items() if words[:2] == ["dask", "scheduler"]])
def test_a_scheduler_tells_its_demand(where: str) -> None:
    pages = ("flows.runtime.dashboard_guard",) if where.startswith("compose/") else ()
    assert parsed(COMMANDS[where])["preload"] == ("infra.scheduler", *pages)


@pytest.mark.parametrize("name", ["tasks.preload", "infra.scheduler", "flows.runtime.dashboard_guard"])
def test_what_is_preloaded_has_a_setup(name: str) -> None:
    found = importlib.util.find_spec(name)
    assert found
    assert found.origin
    assert "def dask_setup(" in Path(found.origin).read_text("utf-8")


def test_workers_work_for_a_pool_that_is_made() -> None:
    started = {where: parsed(words) for where, words in COMMANDS.items() if words[:3] == ["prefect", "worker", "start"]}
    kinds = {"compose/prefect-worker": "process", "operator/Deployment/prefect-worker": "kubernetes"}
    kinds["keda/Deployment/prefect-worker"] = "kubernetes"
    assert set(started) == set(kinds)
    for where, kind in kinds.items():
        assert kind in KINDS
        assert (started[where]["work_pool_name"], started[where]["worker_type"]) == (pool_name(kind), kind)
    terraform = (INFRA / "terraform" / "worker.tf").read_text("utf-8")
    assert f'"--pool", "{pool_name("ecs")}", "--type", "ecs"' in terraform


def test_a_health_check_asks_the_port_of_its_program() -> None:
    for name, service in compose()["services"].items():
        port = OWN_HEALTH.get(_program(service.get("command", [])))
        if port and "reelflow" in service["image"]:
            assert f":{port}/" in service["healthcheck"]["test"][-1], name
    for variant in VARIANTS:
        for spec in pod_specs(variant).values():
            [container] = spec["containers"]
            ports = {entry["name"]: str(entry["containerPort"]) for entry in container["ports"]}
            for probe in ("startupProbe", "livenessProbe"):
                asked = ports[container[probe]["httpGet"]["port"]]
                assert asked == OWN_HEALTH[_program(container["args"])]


def test_the_watchers_listen_where_they_are_asked() -> None:
    started = {where: parsed(words) for where, words in COMMANDS.items() if words[2:4] == ["flows", "watch"]}
    assert set(started) == {"compose/watcher", "operator/Deployment/watcher", "keda/Deployment/watcher"}
    assert {options["listen"] for options in started.values()} == {f"0.0.0.0:{OWN_HEALTH[WATCHER]}"}
    for where, options in started.items():
        assert ("reelflow" if "compose" in where else "your-bucket") in options["prefix"]
        assert options["until_empty"] is False


def _program(words: Sequence[object]) -> str:
    """What OWN_HEALTH knows a command line by; empty where it is none of them."""
    line = " ".join(map(str, words))
    return next((program for program in OWN_HEALTH if line.startswith(program)), "")


def _settings_in_use() -> set[str]:
    used: set[str] = set()
    for service in compose()["services"].values():
        used |= set(service.get("environment", {}))
    for variant in VARIANTS:
        for item in kubernetes(variant):
            used |= set(item.get("data", {}) if item["kind"] == "ConfigMap" else ())
    used |= set(re.findall(r"^\s+([A-Z_]+)=", (INFRA / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    return used


def test_every_reelflow_setting_that_is_set_exists() -> None:
    known = {f"REELFLOW_{name.upper()}" for name in Settings.model_fields} | {"REELFLOW_REVISION"}
    ours = {name for name in _settings_in_use() if name.startswith("REELFLOW_")}
    assert {"REELFLOW_STORE", "REELFLOW_DASK_ADDRESS", "REELFLOW_CACHE_DIR"} <= ours <= known


def test_every_prefect_setting_that_is_set_exists() -> None:
    from prefect.settings.legacy import _get_settings_fields
    from prefect.settings.models.root import Settings as PrefectSettings

    known = set(_get_settings_fields(PrefectSettings)) | {"PREFECT_HOME"}
    ours = {name for name in _settings_in_use() if name.startswith("PREFECT_") and "INTEGRATIONS" not in name}
    assert "PREFECT_SERVER_DATABASE_PASSWORD" in ours
    assert ours <= known


def test_workers_limit_the_threads_of_every_library() -> None:
    linux = {name for name in LIBRARIES if not name.startswith("VECLIB")}
    services = compose()["services"]
    for name in ("dask-worker-cpu", "dask-worker-gpu", "dask-worker-gpu-on-cpu"):
        assert linux <= set(services[name]["environment"])
    [threads] = [item for item in kubernetes("keda") if item["metadata"]["name"] == "reelflow-worker-threads"]
    assert linux == set(threads["data"])
    assert len(set(threads["data"].values())) == 1
