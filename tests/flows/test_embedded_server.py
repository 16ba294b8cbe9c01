"""The Prefect server of our own: what it was told is in its database, and it finds task runs by an index."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from flows.runtime.embedded_server import by_flow_run
from flows.runtime.local_server import LINE_BYTES, LINES_KEPT, LocalServer
from tasks.core.errors import SetupError
from tasks.core.ports import free_port
from tests.prefect_home import DATABASE, new_prefect_home, use_prefect_home

AUTH = "reelflow:secret"
TASKS = 30
SCRIPT = f"""
from prefect import flow, task

@task
def double(number):
    return 2 * number

@flow
def doubles():
    return [future.result() for future in double.map(range({TASKS}))]

assert doubles() == list(range(0, {2 * TASKS}, 2))
"""
BY_STATE = "SELECT {}, count(*) FROM {} GROUP BY 1"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = new_prefect_home(tmp_path_factory)
    use_prefect_home(monkeypatch, home)
    return home


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The API of a server that logs its statements; ends it as a flow does."""
    port = free_port()
    environment = {**os.environ, "PREFECT_SERVER_DATABASE_ECHO": "true", "PREFECT_SERVER_API_AUTH_STRING": AUTH}
    command = [sys.executable, "-m", "flows.runtime.embedded_server", str(port)]
    api = f"http://127.0.0.1:{port}/api"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as server:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    httpx.get(f"{api}/health", timeout=2)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield api
        finally:
            server.terminate()
            server.wait(timeout=30)


def test_states_are_written_together_found_by_index_and_all_of_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would write after a minute, and is stopped before."""
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL", "60")
    log = tmp_path / "log"
    with served(log) as api:
        environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": AUTH}
        subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120, capture_output=True)
    states = {"PENDING": TASKS, "RUNNING": TASKS, "COMPLETED": TASKS}
    logged = log.read_text().splitlines()
    asked = {line for line in logged if "task_run.dynamic_key) IN (VALUES" in line}
    with closing(sqlite3.connect(home / DATABASE)) as database:
        assert dict(database.execute(BY_STATE.format("state_type", "task_run"))) == {"COMPLETED": TASKS}
        assert dict(database.execute(BY_STATE.format("type", "task_run_state"))) == states
        assert len(asked) == 2, "one batch asks twice: what is known by id or key, and the ids of what was written"
        for line in asked:
            assert [step for step in plan(database, line) if step.startswith("SEARCH task_run")]
            assert not [step for step in plan(database, line) if step.startswith("SCAN task_run")]


def plan(database: sqlite3.Connection, line: str) -> list[str]:
    """SQLite's steps for the condition of a logged statement."""
    question = "SELECT task_run.id FROM task_run " + line[line.index("WHERE") :]  # noqa: S608 - the server's own
    values = dict.fromkeys(re.findall(r":(\w+)", question), "")
    return [step[3] for step in database.execute(f"EXPLAIN QUERY PLAN {question}", values)]


@pytest.mark.parametrize(
    "statement", ["SELECT 1", "SELECT id FROM task_run WHERE (task_run.task_key) IN (VALUES (:a))"]
)
def test_other_statements_are_left_alone(statement: str) -> None:
    assert by_flow_run(statement) == statement


def test_a_server_that_complains_a_lot_goes_on_and_is_remembered(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody reads is full after 64 KiB; a server that writes on then answers nobody."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "def complain():\n"
        "    for number in range(20_000): print('complaint', number, file=sys.stderr)\n"
        "    print('all said', 'x' * 200_000, file=sys.stderr, flush=True)\n"
        "if 'flows.runtime.embedded_server' in sys.orig_argv: complain()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    server = LocalServer()
    try:
        server.wait()
        assert httpx.get(f"{server.api_url}/health", timeout=5).status_code == httpx.codes.OK
    finally:
        server.stop()
    said = server.errors()
    assert "all said xxx" in said
    assert len(said) < LINES_KEPT * LINE_BYTES


def test_a_server_that_cannot_start_says_why(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sqlalchemy.py").write_text("raise ImportError('what is amiss')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    server = LocalServer()
    with pytest.raises(SetupError, match="ended at its start") as raised:
        server.wait()
    assert "what is amiss" in raised.value.detail


def test_without_the_flow_runs_sqlite_reads_the_whole_table(home: Path) -> None:
    question = (
        "SELECT task_run.id FROM task_run WHERE (task_run.flow_run_id, task_run.task_key, task_run.dynamic_key) IN "
        "(VALUES (:a_1, :a_2, :a_3), (:b_1, :b_2, :b_3))"
    )
    with closing(sqlite3.connect(home / DATABASE)) as database:
        assert plan(database, question)[0].startswith("SCAN task_run")
        assert plan(database, by_flow_run(question))[0].startswith("SEARCH task_run")
