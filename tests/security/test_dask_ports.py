"""Who speaks Dask's protocol to the ports of a run or of a shared cluster, without its certificate, runs no code."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import httpx
import psutil
import pytest
from distributed import Security
from distributed.core import rpc

from flows.runtime.dask_security import tls_environment, write_certificate
from tasks.core.ports import LOOPBACK
from tests.source_tree import ROOT

CONNECT = {"distributed.comm.timeouts.connect": "3s"}
ANSWER_S = 20
CODE = ("run_function", "run")
"""What a scheduler, and what workers and nannies call the request that runs a function which comes with it."""

Caller = tuple[str, Security | None]
"""Protocol and certificate."""

STRANGERS: tuple[Caller, ...] = (("tcp", None), ("tls", Security.temporary()))


async def _send_code(port: int, operation: str, caller: Caller, trace: Path) -> None:
    protocol, security = caller
    arguments = security.get_connection_args("client") if security else {}
    call: dict[str, Any] = {"function": os.mkdir, "args": (str(trace / str(port)),), "kwargs": {}}
    with suppress(Exception):
        async with asyncio.timeout(ANSWER_S), rpc(f"{protocol}://127.0.0.1:{port}", connection_args=arguments) as peer:
            await getattr(peer, operation)(**{name: cloudpickle.dumps(value) for name, value in call.items()})


def _attack(ports: set[int], friend: Security, folder: Path) -> dict[str, int]:
    """Sends code to each port in every way: how many ports ran that of strangers, and that of who is let in."""
    traces = {"strangers": folder / "strangers", "friend": folder / "friend"}
    for trace in traces.values():
        trace.mkdir()
    callers = [(caller, traces["strangers"]) for caller in STRANGERS] + [(("tls", friend), traces["friend"])]

    async def all_at_once() -> None:
        each = (_send_code(port, operation, *caller) for port in ports for operation in CODE for caller in callers)
        await asyncio.gather(*each)

    with dask.config.set(CONNECT):
        asyncio.run(all_at_once())
    return {name: len(list(trace.iterdir())) for name, trace in traces.items()}


def _listening(root: psutil.Process) -> dict[int, str]:
    """Ports of a process and of its descendants, and the addresses that they are bound to."""
    found: dict[int, str] = {}
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            found |= {s.laddr.port: s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    return found


def test_a_run_of_its_own_takes_code_from_nobody_else(engine: None, tmp_path: Path) -> None:
    from flows.runtime.dask_client import worker_count
    from flows.runtime.local_cluster import local_scheduler, local_security, planned_workers

    address = local_scheduler()
    while worker_count() < planned_workers():
        pass
    listening = _listening(psutil.Process())
    parts = 1 + 2 * planned_workers()
    friend = local_security(address)
    assert _attack(set(listening), friend, tmp_path) == {"strangers": 0, "friend": parts}


def test_web_pages_of_a_run_tell_nothing(engine: None) -> None:
    """Of Dask, whose pages Tornado serves: other servers of this process are of other tests."""
    from flows.runtime.local_cluster import local_scheduler

    local_scheduler()
    answers = []
    for port in _listening(psutil.Process()):
        for page in ("/info/main/workers.html", "/json/counts.json", "/metrics", "/health"):
            with suppress(httpx.TransportError):
                answers.append(httpx.get(f"http://{LOOPBACK}:{port}{page}", timeout=ANSWER_S))
    told = {answer.status_code for answer in answers if "Tornado" in answer.headers.get("server", "")}
    assert told == {httpx.codes.NOT_FOUND}


def test_the_process_that_workers_are_forked_from_is_reached_by_its_user_only(engine: None) -> None:
    from flows.runtime.local_cluster import local_scheduler

    local_scheduler()
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    assert isinstance(address, str)
    assert address.startswith("/"), "an abstract socket has no owner"
    assert stat.S_IMODE(Path(address).parent.stat().st_mode) == 0o700


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str, dict[str, str]]]:
    """A scheduler as `make up` starts it: process, address of its pages, environment."""
    folder = tmp_path_factory.mktemp("shared") / "tls"
    assert write_certificate(folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASK_", "PREFECT_"))}
    environment = kept | tls_environment(folder) | {"PREFECT_API_AUTH_STRING": "reelflow:secret"}
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--dashboard-address", "127.0.0.1:0", "--preload", "flows.runtime.dashboard_guard"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = ""
        while "Run preload setup" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        [page] = re.findall(r"dashboard at:\s+(http://\S+?)/status", said)
        assert re.search(r"Scheduler at:\s+tls://", said)
        yield process.pid, page, environment
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_shared_cluster_takes_code_from_who_has_its_certificate(
    shared: tuple[int, str, dict[str, str]], tmp_path: Path
) -> None:
    pid, _, environment = shared
    files: dict[str, Any] = {"tls_ca_file": environment["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"]}
    for part in ("cert", "key"):
        files[f"tls_client_{part}"] = environment[f"DASK_DISTRIBUTED__COMM__TLS__CLIENT__{part.upper()}"]
    friend = Security(require_encryption=True, **files)
    assert _attack(set(_listening(psutil.Process(pid))), friend, tmp_path) == {"strangers": 0, "friend": 1}


def test_dasks_pages_ask_for_the_auth_string(shared: tuple[int, str, dict[str, str]]) -> None:
    _, page, _ = shared
    with httpx.Client(base_url=page, timeout=ANSWER_S) as client:
        for path in ("/status", "/info/main/workers.html", "/json/counts.json", "/sitemap.json", "/nothing"):
            assert client.get(path).status_code == httpx.codes.UNAUTHORIZED, path
            assert client.get(path, auth=("reelflow", "guess")).status_code == httpx.codes.UNAUTHORIZED, path
        ours = ("reelflow", "secret")
        assert client.get("/status", auth=ours).status_code == httpx.codes.OK
        for elsewhere in ({"Host": "rebound.example"}, {"Origin": "http://elsewhere.example"}, {"Origin": "null"}):
            assert client.get("/status", headers=elsewhere, auth=ours).status_code == httpx.codes.FORBIDDEN, elsewhere
        assert client.get("/health").status_code == httpx.codes.OK


def test_a_certificate_is_its_users_alone_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert write_certificate(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    before = [path.read_bytes() for path in files]
    assert not write_certificate(folder)
    assert [path.read_bytes() for path in files] == before
