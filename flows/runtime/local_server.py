"""A Prefect API for runs without a server: one process on loopback that ends with this one, however that ends.

It answers nobody but this process and those that it starts: they have its auth string.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tasks.core.errors import SetupError
from tasks.core.host import is_this_host
from tasks.core.ports import free_port

LINES_KEPT, LINE_BYTES = 100, 2**12
"""Of what a server says about errors; a longer line counts as several."""

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


_own: set[str] = set()
"""Addresses of the servers that flows of this process use and that it has started."""


class LocalServer:
    """Starts at once, in the background; `api_url` is answered after `wait`."""

    def __init__(self) -> None:
        self._port = free_port()
        self.api_url = f"http://127.0.0.1:{self._port}/api"
        self.auth = new_auth()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.runtime.embedded_server", str(self._port), "--parent", str(os.getpid())],
            env={**os.environ, **_QUIET, "PREFECT_SERVER_API_AUTH_STRING": self.auth},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the flow, which ends its server last
        )
        self._errors: deque[bytes] = deque(maxlen=LINES_KEPT)
        self._reader = threading.Thread(target=self._read_errors, name="reelflow-server-errors", daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Returns when the API answers. Raises SetupError when it does not start."""
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(timeout=2, trust_env=False) as client:  # one: each reads all the certificates of the host
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise SetupError(
                        "The embedded Prefect server ended at its start; run `python -m flows doctor`, or use a server "
                        "of your own (`prefect server start`, then set PREFECT_API_URL).",
                        detail=self.errors()[-4000:],
                    )
                try:
                    if client.get(f"{self.api_url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    time.sleep(0.05)
        raise SetupError(
            f"The embedded Prefect server did not answer in {START_TIMEOUT_S:.0f} s; is the machine overloaded?"
        )

    def errors(self) -> str:
        """The last of what the server wrote to stderr, in full once it has ended."""
        if self._process.poll() is not None:
            self._reader.join(timeout=5)
        return b"".join(tuple(self._errors)).decode(errors="replace")

    def _read_errors(self) -> None:
        """Reads them as they come: a server whose pipe is full would wait for a reader, and answer nobody."""
        pipe = self._process.stderr
        while pipe and (line := pipe.readline(LINE_BYTES)):
            self._errors.append(line)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def new_auth() -> str:
    """An auth string for a Prefect server that nobody can guess."""
    return f"reelflow:{secrets.token_urlsafe(24)}"


def check_reach(hosts: Iterable[str]) -> None:
    """Raises SetupError where this process's own API is used and workers are on hosts that cannot reach it."""
    elsewhere = [host for host in hosts if not is_this_host(host)] if _own else []
    if elsewhere:
        raise SetupError(
            f"The workers at {', '.join(sorted(elsewhere)[:3])} cannot reach the Prefect API that this command starts "
            "for itself on loopback. Start one that they reach (prefect server start --host 0.0.0.0) and set "
            "PREFECT_API_URL."
        )


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

    from tasks.workers.api_certificates import spared

    current = get_settings_context()
    with SettingsContext(profile=current.profile, settings=spared(current.settings)):
        yield


@contextmanager
def prefect_api(meanwhile: Callable[[], None] | None = None) -> Iterator[str | None]:
    """The API that PREFECT_API_URL or the active profile names; where there is none, one of our own for the block.

    The server boots while the caller's imports go on, so enter this before importing flows; `meanwhile` is called then.
    Gives the address of a server of our own.
    """
    if _profile_names_server():
        if meanwhile:
            meanwhile()
        with _spared():
            yield None
        return
    server = LocalServer()
    _own.add(server.api_url)
    ours = {"PREFECT_API_URL": server.api_url, "PREFECT_API_AUTH_STRING": server.auth}
    before = {name: os.environ.get(name) for name in ours}
    try:
        os.environ.update(ours)  # of the processes that this one starts
        if meanwhile:
            meanwhile()
        from prefect.settings import (
            PREFECT_API_AUTH_STRING,
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )

        server.wait()
        # Nobody watches heartbeats here, and a flow run that sends them ends up to a second late.
        settings: dict[Any, Any] = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
        with temporary_settings({**settings, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), _spared():
            yield server.api_url
            from tasks.workers.worker import flush

            flush()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        _own.discard(server.api_url)
        server.stop()
