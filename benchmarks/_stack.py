"""The parts of a cluster as processes on loopback, which can be killed and started again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from flows.runtime.dask_security import tls_environment, write_certificate
from flows.runtime.local_server import new_auth
from tasks.core.ports import free_port
from tasks.store import Store, open_store

BUCKET = "storm"
WORKERS = 2


class Stack:
    """The processes; every one is ended with the block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._exit = ExitStack()
        self._backfill: subprocess.Popen[bytes] | None = None
        self._workers_s3 = ""
        self._auth = new_auth()
        write_certificate(folder / "tls")

    def __enter__(self) -> Stack:
        self._exit.callback(self._end)
        port = free_port()
        self.s3 = f"http://127.0.0.1:{port}"
        self._workers_s3 = self.s3
        self._start("s3", [_script("moto_server"), "-H", "127.0.0.1", "-p", str(port)])
        self._server_port = free_port()
        self._prefect = self._start_server()
        self._start("scheduler", [_script("dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"])
        self.dask = self._wait("scheduler", r"Scheduler at:\s+(tls://\S+)")
        self._hosts = [self._start_worker() for _ in range(WORKERS)]
        _answers(f"{self.s3}/moto-api/")
        return self

    def __exit__(self, *_: Any) -> None:
        self._exit.close()

    def client(self) -> Any:
        import boto3

        return boto3.client("s3", **self._credentials(), endpoint_url=self.s3)

    def store(self, name: str) -> Store:
        """A store seen past the proxy."""
        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        for key, value in self._credentials().items():
            os.environ[names.get(key, "AWS_DEFAULT_REGION")] = value
        os.environ["AWS_ENDPOINT_URL"] = self.s3
        return open_store(f"s3://{BUCKET}/{name}")

    def proxy(self, rate: float, stall_s: float, seed: int) -> str:
        """Address of a proxy that fails now and then."""
        port = free_port()
        flags = ["--upstream", self.s3, "--port", str(port), "--rate", str(rate), "--stall", str(stall_s)]
        self._start("proxy", [sys.executable, "-m", "tests.fault_proxy", *flags, "--seed", str(seed)])
        _answers(f"http://127.0.0.1:{port}/-/counts")
        self._workers_s3 = f"http://127.0.0.1:{port}"
        for host in self._hosts:
            host.terminate()
            host.wait()
        self.supervise()
        return f"http://127.0.0.1:{port}"

    def backfill(self, name: str, s3: str, options: list[str]) -> tuple[int, float]:
        """Exit status and seconds of one `python -m flows backfill`."""
        command = [sys.executable, "-m", "flows", "backfill", f"s3://{BUCKET}/in/", "--store", f"s3://{BUCKET}/{name}"]
        command += [word for option in options for word in ("--set", option)]
        started = time.monotonic()
        environment = {
            "AWS_ENDPOINT_URL": s3,
            "PREFECT_API_URL": f"http://127.0.0.1:{self._server_port}/api",
            "PREFECT_API_AUTH_STRING": self._auth,
            "REELFLOW_DASK_ADDRESS": self.dask,
            "REELFLOW_WORKER_WAIT_S": "120",
        }
        self._backfill = self._start(name, command, environment)
        return self._backfill.wait(), time.monotonic() - started

    def kill_backfill(self) -> None:
        if self._backfill:
            self._backfill.kill()

    def kill_worker(self, choose: random.Random) -> int:
        """Kills one worker process (its nanny starts another); how many were killed."""
        pids = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if _parent(entry) in {host.pid for host in self._hosts} and b"spawn_main" in _command(entry)
        ]
        if not pids:
            return 0
        os.kill(choose.choice(pids), signal.SIGKILL)
        return 1

    def supervise(self) -> int:
        """Starts workers again whose nanny has given up, as a service manager does; how many."""
        ended = [number for number, host in enumerate(self._hosts) if host.poll() is not None]
        for number in ended:
            self._hosts[number] = self._start_worker()
        return len(ended)

    def restart_server(self) -> None:
        self._prefect.terminate()
        self._prefect.wait()
        self._prefect = self._start_server()

    def tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        flags = ["--nthreads", "1", "--no-dashboard", "--preload", "tasks.preload", "--resources", "CPU=1 GPU=1"]
        command = [_script("dask"), "worker", self.dask, *flags]
        return self._start("workers", command, {"AWS_ENDPOINT_URL": self._workers_s3})

    def _start_server(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flows.runtime.embedded_server", str(self._server_port)]
        process = self._start("server", command, {"PREFECT_SERVER_API_AUTH_STRING": self._auth})
        _answers(f"http://127.0.0.1:{self._server_port}/api/health")
        return process

    def _start(self, name: str, command: list[str], more: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_", "DASK_"))}
        environment |= {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": getattr(self, "s3", ""),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "REELFLOW_CACHE_DIR": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            **tls_environment(self.folder / "tls"),
            **(more or {}),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._processes.append(process)
        return process

    def _wait(self, name: str, pattern: str, timeout_s: float = 120.0) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.tail(name)):
                return found.group(1)
            time.sleep(0.1)
        raise AssertionError(f"{name} did not start: {self.tail(name)}")

    def _end(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def _credentials() -> dict[str, str]:
        return {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


def _answers(url: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
