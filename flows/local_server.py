"""A Prefect API for runs without a server: one process on loopback that ends with this one, however that ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tasks.core.errors import SetupError

START_TIMEOUT_S = 120.0
"""The first start creates the database, which takes several times as long as a later one."""

_QUIET = {
    "PREFECT_API_URL": "",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_LEVEL": "ERROR",
}
"""What a server with one client does not need."""


class LocalServer:
    """Starts at once, in the background; `api_url` is answered after `wait`."""

    def __init__(self) -> None:
        self._port = _free_port()
        self.api_url = f"http://127.0.0.1:{self._port}/api"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded_server", str(self._port), str(os.getpid())],
            env={**os.environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the flow, which ends its server last
        )

    def wait(self) -> None:
        """Returns when the API answers. Raises SetupError when it does not start."""
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(timeout=2, trust_env=False) as client:  # one: each reads all the certificates of the host
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    output = self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
                    raise SetupError(
                        "The embedded Prefect server ended at its start; run `python -m flows doctor`, or use a server "
                        "of your own (`prefect server start`, then set PREFECT_API_URL).",
                        detail=output[-4000:],
                    )
                try:
                    if client.get(f"{self.api_url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    time.sleep(0.05)
        raise SetupError(
            f"The embedded Prefect server did not answer in {START_TIMEOUT_S:.0f} s; is the machine overloaded?"
        )

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _profile_names_server() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if not (home / "profiles.toml").exists():
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


@contextmanager
def _spared() -> Iterator[None]:
    from prefect.context import SettingsContext, get_settings_context

    from tasks.api_certificates import spared

    current = get_settings_context()
    with SettingsContext(profile=current.profile, settings=spared(current.settings)):
        yield


@contextmanager
def prefect_api(meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
    """The API that PREFECT_API_URL or the active profile names; where there is none, one of our own for the block.

    The server boots while the caller's imports go on, so enter this before importing flows; `meanwhile` is called then.
    """
    if _profile_names_server():
        if meanwhile:
            meanwhile()
        with _spared():
            yield
        return
    server = LocalServer()
    try:
        os.environ["PREFECT_API_URL"] = server.api_url
        if meanwhile:
            meanwhile()
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        server.wait()
        # Nobody watches heartbeats here, and a flow run that sends them ends up to a second late.
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), _spared():
            yield
            from tasks.worker import flush

            flush()
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        server.stop()
