"""prefect.yaml: a misspelt key is found and named, and what it says can be deployed to a real server."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from deployments import registry
from tests.deployments.conftest import Server
from tests.source_tree import ROOT


@pytest.fixture
def changed(tmp_path: Path) -> object:
    """`changed("old", "new")`: the faults of prefect.yaml with one text replaced."""

    def faults(old: str, new: str) -> list[str]:
        text = (ROOT / "prefect.yaml").read_text("utf-8")
        assert old in text
        copy = tmp_path / "prefect.yaml"
        copy.write_text(text.replace(old, new, 1))
        return registry.check(copy)

    return faults


def test_prefect_yaml_has_no_fault() -> None:
    assert registry.check() == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("deployments:", "deployment:", ["'deployment'", "did you mean 'deployments'"]),
        ("    entrypoint:", "    entry_point:", ["'entry_point'", "did you mean 'entrypoint'"]),
        ("    tags:", "    tag:", ["'tag'", "did you mean 'tags'"]),
        ("    work_pool:", "    workpool:", ["'workpool'", "did you mean 'work_pool'"]),
        ("    schedules:", "    shedules:", ["'shedules'", "did you mean 'schedules'"]),
        ("        cron:", "        corn:", ["'corn'", "did you mean 'cron'", "schedule of deployment"]),
        ("      collision_strategy:", "      colision_strategy:", ["'colision_strategy'", "'collision_strategy'"]),
        ("      name:", "      nmae:", ["'nmae'", "did you mean 'name'", "work_pool of deployment"]),
        ("    tags:", "    zzz:", ["'zzz'", "the keys there are"]),
        ("analyze_media.analyze_media", "analyze_media.analyse", ["'flows.analyze_media.analyse'", "names no flow"]),
        ("flows.analyze_media.analyze_media", "flows/analyze_media.py:analyze_media", ["no module path"]),
        ("flows.sweep_task_runs.sweep", "flows.sweep_task_run.sweep", ["cannot be imported"]),
        ("collision_strategy: CANCEL_NEW", "collision_strategy: CANCEL_OLD", ["'CANCEL_OLD'", "ENQUEUE or CANCEL_NEW"]),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(changed: object, old: str, new: str, words: list[str]) -> None:
    fault = changed(old, new)[0]  # type: ignore[operator]
    assert fault.startswith("prefect.yaml: ")
    assert [word for word in words if word not in fault] == [], fault
    assert "\n" not in fault


def test_a_parameter_that_the_flow_lacks_is_named(changed: object) -> None:
    old = "    work_pool: &pool"
    [fault] = changed(old, f"    parameters: {{sorce: x}}\n{old}")  # type: ignore[operator]
    assert "analyze-media has no parameter 'sorce'" in fault
    assert "source, store, options" in fault


def test_the_command_says_so_and_fails(server: Server) -> None:
    done = server.run("-m", "deployments", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "every key" in done.stdout


def test_deploy_all_registers_every_entry_and_its_schedules_make_runs(server: Server, api: httpx.Client) -> None:
    applied = server.run("-m", "deployments", "apply")
    assert applied.returncode == 0, applied.stderr
    done = server.run("-m", "prefect", "--no-prompt", "deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr

    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    found = {entry["entrypoint"]: entry for entry in api.post("/deployments/filter", json={}).json()}
    assert set(found) >= {entry["entrypoint"] for entry in entries}
    for entry in entries:
        deployed = found[entry["entrypoint"]]
        assert deployed["work_pool_name"] == "reelflow-process"
        assert deployed["tags"] == entry["tags"]
        assert deployed["version"].startswith("0.")
        assert deployed["pull_steps"] == []
        schema = deployed["parameter_openapi_schema"]
        assert [name for name, value in schema["properties"].items() if not value.get("description")] == []
        wanted = entry.get("concurrency_limit")
        limit = deployed["global_concurrency_limit"]
        assert (limit and limit["limit"]) == (wanted and wanted["limit"])
        if wanted:
            assert deployed["concurrency_options"]["collision_strategy"] == wanted["collision_strategy"]
        active = {schedule["slug"]: schedule["active"] for schedule in deployed["schedules"]}
        assert active == {s["slug"]: s["active"] for s in entry.get("schedules", [])}

    from tests.deployments.conftest import until

    sweeper = found["flows.sweep_task_runs.sweep_task_runs"]["id"]
    wanted_runs = {
        "deployments": {"id": {"any_": [sweeper]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    until(lambda: api.post("/flow_runs/filter", json=wanted_runs).json(), "a scheduled run of the sweeper", 60)


def test_a_value_out_of_bounds_is_refused_before_a_run_starts(server: Server, api: httpx.Client) -> None:
    deployed = api.get("/deployments/name/analyze-media/default").json()
    options = {"frames": {"fps": 1000}}
    answer = api.post(
        f"/deployments/{deployed['id']}/create_flow_run", json={"parameters": {"source": "x", "options": options}}
    )
    assert answer.status_code == httpx.codes.CONFLICT, answer.text
    assert "60" in answer.text
