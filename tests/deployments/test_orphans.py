"""What a killed flow leaves behind: the automation crashes its run, the sweeper its task runs, and nothing else."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from tests.deployments.conftest import Server, until

FLOW = "from tests.deployments.toys import sleep; sleep(600)"


def _orphan(server: Server, api: httpx.Client) -> tuple[str, str]:
    """A flow run whose process was killed in the middle of a task: (flow run, task run)."""
    process = server.start(f"orphan-{uuid4()}", "-c", FLOW)
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "flows": {"name": {"any_": ["toy-sleep"]}}}
    tasks = running | {"task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    until(lambda: api.post("/task_runs/filter", json=tasks).json(), "the task runs")
    [task] = api.post("/task_runs/filter", json=tasks).json()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    return task["flow_run_id"], task["id"]


def _sweep(server: Server, **parameters: Any) -> dict[str, Any]:
    program = (
        "import json, sys; from flows.sweep_task_runs import sweep_task_runs\n"
        "print(sweep_task_runs(**json.loads(sys.argv[1])).model_dump_json())"
    )
    done = server.run("-c", program, json.dumps(parameters))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_task_runs_of_ended_flow_runs_are_crashed_and_no_others(server: Server, api: httpx.Client) -> None:
    flow_run, task_run = _orphan(server, api)
    assert _sweep(server, grace_s=0)["crashed"] == 0, "the flow run counts as running still"

    crashed = {"state": {"type": "CRASHED"}, "force": True}
    api.post(f"/flow_runs/{flow_run}/set_state", json=crashed).raise_for_status()
    assert _sweep(server, grace_s=3600)["crashed"] == 0, "its last events may be on their way"
    assert api.get(f"/task_runs/{task_run}").json()["state"]["type"] == "RUNNING"

    assert _sweep(server, grace_s=0) == {"crashed": 1, "more": False}
    assert api.get(f"/task_runs/{task_run}").json()["state"]["type"] == "CRASHED"
    [report] = api.post("/artifacts/filter", json={"artifacts": {"key": {"any_": ["swept-task-runs"]}}}).json()
    assert [row["flow run"] for row in json.loads(report["data"])] == [flow_run]
    assert _sweep(server, grace_s=0) == {"crashed": 0, "more": False}


def test_a_run_without_heartbeat_is_crashed_and_one_that_ended_by_another_name_is_not(
    server: Server, api: httpx.Client
) -> None:
    """The shipped automation, with a shorter patience, on the events that flow runs send."""
    import yaml

    from deployments.apply import AUTOMATIONS

    entry = yaml.safe_load(AUTOMATIONS.read_text("utf-8"))[0]
    entry["name"] += " (test)"
    entry["trigger"]["within"] = 10
    automation = api.post("/automations/", json=entry).raise_for_status().json()["id"]
    flow = api.post("/flows/", json={"name": "toy-sleep"}).json()["id"]

    def run(tags: list[str]) -> str:
        body = {"flow_id": flow, "state": {"type": "RUNNING"}, "tags": tags}
        return str(api.post("/flow_runs/", json=body).json()["id"])

    dead, done, foreign = run(["reelflow"]), run(["reelflow"]), run([])
    for number, (one, tags) in enumerate(((dead, ["reelflow"]), (done, ["reelflow"]), (foreign, []))):
        related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
        occurred = datetime.now(UTC) + timedelta(milliseconds=number)
        beat: dict[str, Any] = {
            "id": str(uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": occurred.isoformat(),
        }
        beat |= {"resource": {"prefect.resource.id": f"prefect.flow-run.{one}"}, "related": related, "payload": {}}
        api.post("/events", json=[beat]).raise_for_status()
    named = {"state": {"type": "FAILED", "name": "Quarantined"}}
    api.post(f"/flow_runs/{done}/set_state", json=named).raise_for_status()

    def state(one: str) -> dict[str, Any]:
        return dict(api.get(f"/flow_runs/{one}").json()["state"])

    try:
        until(lambda: state(dead)["type"] == "CRASHED", "the silent run is crashed", 60)
        assert "No heartbeat" in state(dead)["message"]
        assert (state(done)["type"], state(done)["name"]) == ("FAILED", "Quarantined")
        assert state(foreign)["type"] == "RUNNING"
    finally:
        api.delete(f"/automations/{automation}")
