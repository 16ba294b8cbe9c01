"""What is attacked: a run of its own with its server and cluster, and a Prefect server as `make up` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from flows.runtime.local_server import new_auth
from tasks.core.ports import free_port
from tests.deployments.conftest import answers
from tests.prefect_home import DATABASE, new_prefect_home


@dataclass(frozen=True)
class Server:
    url: str
    auth: str

    def count(self, what: str = "flows") -> int:
        """How many of them the server knows."""
        answer = httpx.post(f"{self.url}/api/{what}/count", json={}, auth=self.basic, timeout=30)
        return int(answer.raise_for_status().json())

    @property
    def basic(self) -> tuple[str, str]:
        user, _, password = self.auth.partition(":")
        return user, password


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server with its pages."""
    home, port = new_prefect_home(tmp_path_factory), free_port()
    found = Server(f"http://127.0.0.1:{port}", new_auth())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/{DATABASE}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_API_AUTH_STRING": found.auth,
    }
    process = subprocess.Popen([sys.executable, "-m", "flows.runtime.embedded_server", str(port)], env=environment)
    try:
        deadline = time.monotonic() + 120
        with httpx.Client(timeout=5, trust_env=False) as client:  # one: each reads all the certificates of the host
            while not answers(client, f"{found.url}/api"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)
