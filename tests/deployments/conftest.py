"""A real Prefect server with all its services, for the tests of this folder; started once per process."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from deployments import processes
from tasks.core.ports import free_port
from tests.prefect_home import new_prefect_home
from tests.source_tree import ROOT


@dataclass
class Server:
    api_url: str
    folder: Path
    stack: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to speak to it, and to be ended with it."""
        other = ("PREFECT_", "AWS_", "REELFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(other)}
        return kept | {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            processes.MARK: self.stack,
        }

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`python ARGUMENTS` in the project's folder, to its end."""
        full = self.environment | dict(environment or {})
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=full, capture_output=True, text=True, timeout=120)

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> processes.Process:
        """`python ARGUMENTS` in the background; it ends with the server."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        full = self.environment | {"PYTHONPATH": path} | dict(environment or {})
        return processes.start(name, [sys.executable, *arguments], full, self.folder)


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Waits until the condition is true; fails and says what never was."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    new_prefect_home(tmp_path_factory).rename(folder / "home")
    port = free_port()
    started = Server(f"http://127.0.0.1:{port}/api", folder, secrets.token_hex(16))
    started.start("server", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    try:
        with httpx.Client(timeout=5) as client:
            until(lambda: answers(client, started.api_url), f"the server, see {folder / 'server.log'}", 120)
        yield started
    finally:
        processes.end(started.stack, [])


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    """The server's API."""
    with httpx.Client(base_url=server.api_url, timeout=30, transport=_Patient()) as client:
        yield client


class _Patient(httpx.HTTPTransport):
    """Asks again while SQLite is locked, which the server answers with 503; Prefect's own clients do the same."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + 30
        while True:
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
            answer.close()
            time.sleep(0.5)


def answers(client: httpx.Client, api_url: str) -> bool:
    """Does the Prefect API answer?"""
    try:
        return client.get(f"{api_url}/health").is_success
    except httpx.TransportError:
        return False
