"""`python -m flows serve` against a real server: forked runs, their logs, cancellation, a crash, a bound, an end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import processes
from tests.deployments.conftest import Server, until

POOL = "toys"
NEW_MODULES = 20
"""Most modules that a served run may import between its first and its last line."""


class Toys:
    """Runs of the toy flows in a pool that a serving process executes."""

    def __init__(self, api: httpx.Client, deployments: dict[str, str], process: processes.Process) -> None:
        self._api = api
        self._deployments = deployments
        self.process = process

    def run(self, name: str, **parameters: Any) -> str:
        """Starts a run and returns its id."""
        url = f"/deployments/{self._deployments[name]}/create_flow_run"
        return str(self._api.post(url, json={"parameters": parameters}).raise_for_status().json()["id"])

    def state(self, run: str) -> str:
        return str(self._api.get(f"/flow_runs/{run}").json()["state"]["type"])

    def becomes(self, run: str, state: str, timeout_s: float = 60) -> None:
        until(lambda: self.state(run) == state, f"{run} {state}: is {self.state(run)}", timeout_s)

    def cancel(self, run: str) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self._api.post(f"/flow_runs/{run}/set_state", json={"state": state}).raise_for_status()

    def forked(self) -> list[str]:
        """The processes of flow runs: what the fork server has forked."""
        return [run for child in _children(self.process.pid) for run in _children(child)]

    def log(self, run: str) -> str:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self._api.post("/logs/filter", json=wanted).json())


def _children(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def toys(server: Server, api: httpx.Client) -> Iterator[Toys]:
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    made = api.post("/work_pools/", json={"name": POOL, "type": "process", "base_job_template": template})
    assert made.status_code in (httpx.codes.CREATED, httpx.codes.CONFLICT)
    deployments = {}
    for name in ("sleep", "die"):
        flow = api.post("/flows/", json={"name": f"toy-{name}"}).json()
        entry = {"name": "toys", "flow_id": flow["id"], "entrypoint": f"tests.deployments.toys.{name}"}
        entry |= {"work_pool_name": POOL, "pull_steps": [], "enforce_parameter_schema": False}
        deployments[name] = api.post("/deployments/", json=entry).raise_for_status().json()["id"]
    command = ("-m", "flows", "serve", "--pool", POOL, "--limit", "2", "--poll", "0.5", "--grace", "30")
    process = server.start("serve", *command)
    until(lambda: "started!" in process.log.read_text(), "the serving process")
    yield Toys(api, deployments, process)
    if processes.alive(process):
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)


def test_runs_are_forked_logged_cancelled_bounded_and_awaited(toys: Toys) -> None:
    first = toys.run("sleep")
    toys.becomes(first, "COMPLETED")
    until(lambda: toys.log(first).count("modules") == 2, "the log of the run reaches the API")
    before, after = (int(n) for n in re.findall(r"modules (\d+)", toys.log(first)))
    assert before > 1000, "everything was imported before the run began"
    assert after - before <= NEW_MODULES
    [parent] = re.findall(r"parent (\d+)", toys.log(first))
    assert int(parent) != toys.process.pid, "the fork server is a process of its own"

    crashed, long, longer, late = toys.run("die"), *(toys.run("sleep", seconds=60) for _ in range(2)), toys.run("sleep")
    toys.becomes(crashed, "CRASHED")
    toys.becomes(long, "RUNNING")
    toys.becomes(longer, "RUNNING")
    assert toys.state(late) in ("SCHEDULED", "PENDING"), "two at a time"
    for run in (long, longer):
        toys.cancel(run)
    for run in (long, longer):
        toys.becomes(run, "CANCELLED")
    toys.becomes(late, "COMPLETED")

    until(lambda: not toys.forked(), "the processes of finished runs end")
    waits = toys.run("sleep", seconds=5)
    toys.becomes(waits, "RUNNING")
    os.kill(toys.process.pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(toys.process.pid, 0)[1]) == 0
    toys.becomes(waits, "COMPLETED")
    assert "1 runs are in flight" in toys.process.log.read_text()


def test_a_pool_that_is_missing_is_named(server: Server) -> None:
    done = server.run("-m", "flows", "serve", "--pool", "nowhere")
    assert done.returncode == 1
    assert "There is no work pool 'nowhere'; `python -m deployments apply` makes it." in done.stderr
