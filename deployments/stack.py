"""The whole of Reelflow on one machine, without containers: `up` starts it, `down` ends exactly that.

Prefect server, S3 server (SeaweedFS, on disk), Dask scheduler and workers, Prefect worker. All listen on 127.0.0.1.
Other users of the host reach that too: Prefect and Dask's pages ask for a secret of the stack, Dask speaks TLS only.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import BaseModel

from deployments import processes
from deployments.processes import MARK, Process
from deployments.version import ROOT
from flows.cli.console import say
from flows.runtime.api_guard import sign_in_link
from flows.runtime.dask_security import tls_environment, write_certificate
from flows.runtime.local_cluster import visible_gpus, workers_that_fit
from flows.runtime.local_server import new_auth
from tasks.core.errors import SetupError
from tasks.core.models import bundled
from tasks.settings import settings
from tasks.workers.threads import LIBRARIES, available_cores

FOLDER = ROOT / ".reelflow" / "stack"
HOST = "127.0.0.1"
BUCKET = "reelflow"
REGION = "us-east-1"
SAMPLE = "inbox/sample.mp4"
TLS = "tls"
"""Folder of the certificate of the Dask cluster, in that of the stack."""

START_TIMEOUT_S = 180.0
"""A first start creates Prefect's database and imports everything from a cold disk."""

OTHERS = ("PREFECT_", "DASK_", "AWS_")
"""What the caller's shell says of other servers, accounts and clusters; none of it may reach the stack."""

SAMPLE_PARAMETERS = {
    "options": {
        "transcript": {"model": "bundled"},
        "detections": {"weights": "bundled", "image_size": 320, "confidence": 0.35},
    }
}
"""What bundled.SAMPLE_OPTIONS and the bundled models are as parameters of a run."""


class Ports(BaseModel):
    """Where the parts listen."""

    prefect: int = 4200
    s3: int = 9000
    dask: int = 8786
    dashboard: int = 8787


class Stack(BaseModel):
    """What runs, as it is written down beside its logs."""

    id: str
    folder: Path
    ports: Ports
    auth: str
    """Prefect's auth string (user:password), and that of Dask's pages."""
    s3_key: str
    s3_secret: str
    """What the S3 server takes; others at each start."""
    processes: list[Process] = []

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.ports.prefect}/api"

    @property
    def pages(self) -> tuple[str, str]:
        """Links to Prefect's pages and to Dask's, with what they ask for."""
        dask = f"http://{self.auth}@{HOST}:{self.ports.dashboard}/status"
        return sign_in_link(f"http://{HOST}:{self.ports.prefect}", self.auth), dask

    @property
    def environment(self) -> dict[str, str]:
        """What a shell needs to speak to the stack."""
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "REELFLOW_STORE": f"s3://{BUCKET}/store",
            "REELFLOW_DASK_ADDRESS": f"tls://{HOST}:{self.ports.dask}",
            **tls_environment(self.folder / TLS),
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.ports.s3}",
            "AWS_ACCESS_KEY_ID": self.s3_key,
            "AWS_SECRET_ACCESS_KEY": self.s3_secret,
            "AWS_DEFAULT_REGION": REGION,
        }


def running(folder: Path = FOLDER) -> Stack | None:
    """The stack whose processes are there; None when there is none (an older record does not count)."""
    record = folder / "stack.json"
    if not record.exists():
        return None
    found = Stack.model_validate_json(record.read_text("utf-8"))
    return found if processes.members(found.id) else None


def up(ports: Ports, folder: Path = FOLDER, *, use_bundled: bool = True) -> Stack:
    """Starts everything and returns when it answers. Raises SetupError, with nothing left running, when it does not."""
    _make_private(folder)
    with _alone(folder):
        if found := running(folder):
            raise SetupError(
                f"The stack runs already: http://{HOST}:{found.ports.prefect} (`make down` ends it, "
                "`python -m deployments status` shows its parts)."
            )
        _require_free(ports)
        keys = {"s3_key": secrets.token_hex(10), "s3_secret": secrets.token_urlsafe(30)}
        stack = Stack(id=secrets.token_hex(16), folder=folder.absolute(), ports=ports, auth=new_auth(), **keys)
        try:
            shutil.rmtree(folder / TLS, ignore_errors=True)
            write_certificate(folder / TLS)
            _start(stack, folder, use_bundled)
        except BaseException:
            _stop(stack, folder)
            raise
        _write_private(folder.parent / "stack.env", _exports(stack, folder))
        return stack


def invitation(stack: Stack, folder: Path, *, use_bundled: bool) -> str:
    """What to open and what to type next."""
    exports = folder.parent / "stack.env"
    shown = exports.relative_to(Path.cwd()) if exports.is_relative_to(Path.cwd()) else exports
    models = "the bundled small models, which know the sample" if use_bundled else "the weights in REELFLOW_MODELS_DIR"
    prefect, dask = stack.pages
    return f"""
Open   {prefect}     Prefect: flows, runs, artifacts, the form of a run
       {dask}     Dask: workers and tasks

Who has these links may run code as you; `python -m deployments status` shows them again.
Try, in another shell (runs use {models}):

  source {shown}
  prefect deployment run 'analyze-media/default' -p source=s3://{BUCKET}/{SAMPLE} --watch

`make down` ends it all; what the S3 server holds stays, and the next `make up` finds it again."""


def down(folder: Path = FOLDER) -> int:
    """Ends the stack; returns how many processes ended, 0 when none ran."""
    _make_private(folder)
    with _alone(folder):
        found = running(folder)
        return _stop(found, folder) if found else 0


def _start(stack: Stack, folder: Path, use_bundled: bool) -> None:
    clock = time.monotonic()

    def told(name: str, where: str) -> None:
        say(f"  {name:<16} {where:<34} {time.monotonic() - clock:5.1f} s")

    def launch(name: str, *command: str, **environment: str) -> Process:
        full = _inherited() | stack.environment | _home(folder) | {MARK: stack.id} | environment
        process = processes.start(name, [sys.executable, *command], full, folder)
        stack.processes.append(process)
        _write_private(folder / "stack.json", stack.model_dump_json(indent=1))
        return process

    ports, listen = stack.ports, ("--host", HOST, "--port")
    # On one connection to SQLite: it queues what `prefect server start` would refuse under many clients.
    server = launch(
        "prefect-server",
        "-m",
        "flows.runtime.embedded_server",
        str(ports.prefect),
        PREFECT_SERVER_API_AUTH_STRING=stack.auth,
    )
    s3 = launch("s3", "-m", "deployments.object_store", str(folder.absolute() / "s3"), str(ports.s3))
    dashboard = ("--dashboard-address", f"{HOST}:{ports.dashboard}", "--preload", "flows.runtime.dashboard_guard")
    scheduler = launch("dask-scheduler", "-m", "dask", "scheduler", *listen, str(ports.dask), *dashboard)
    workers = []
    for name, resource, variables in _workers():
        flags = ["--host", HOST, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--name", name]
        flags += ["--resources", f"{resource}=1", "--preload", "tasks.preload", "--death-timeout", "120"]
        address = stack.environment["REELFLOW_DASK_ADDRESS"]
        variables |= _preload(use_bundled)
        workers.append(launch(f"dask-{name}", "-m", "dask", "worker", address, *flags, **variables))

    _wait(s3, lambda: _bucket_is_filled(stack))
    told("S3", f"http://{HOST}:{ports.s3}")
    _wait(scheduler, lambda: _answers(f"http://{HOST}:{ports.dashboard}/health"))
    told("Dask scheduler", f"{stack.environment['REELFLOW_DASK_ADDRESS']}")
    _wait(server, lambda: _answers(f"{stack.api_url}/health"))
    told("Prefect server", f"http://{HOST}:{ports.prefect}")
    told("deployments", ", ".join(_deploy(stack, folder, use_bundled)))
    worker = launch(
        "prefect-worker",
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        "reelflow-process",
        "--name",
        "local",
        "--limit",
        "4",
    )
    for process in workers:
        _wait(process, partial(_has_said, process, "Registered to:"))
        told(process.name, "")
    _wait(worker, lambda: _worker_is_online(stack))
    told("Prefect worker", "pool reelflow-process")


def _workers() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, resource and environment of each Dask worker; where there is no GPU, the GPU worker computes on the CPU."""
    gpus = visible_gpus()
    on_cpus = settings().workers or workers_that_fit(max(1, len(gpus)))
    threads = max(1, available_cores() // (on_cpus + max(1, len(gpus))))
    environment = {name: str(threads) for name in LIBRARIES}
    for number in range(on_cpus):
        yield f"cpu-{number}", "CPU", environment | {"CUDA_VISIBLE_DEVICES": ""}
    for number, gpu in enumerate(gpus or [""]):
        yield f"gpu-{number}", "GPU", environment | {"CUDA_VISIBLE_DEVICES": gpu}


def _preload(use_bundled: bool) -> dict[str, str]:
    stated = settings().preload_models
    ours = "transcript.model=bundled detections.weights=bundled detections.image_size=320"
    return {"REELFLOW_PRELOAD_MODELS": stated or (ours if use_bundled else "")}


def _inherited() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    return kept | {"PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()]), "PYTHONUNBUFFERED": "1"}


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _home(folder: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def _exports(stack: Stack, folder: Path) -> str:
    values = stack.environment | {"PREFECT_HOME": _home(folder)["PREFECT_HOME"]}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines += [
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        "unset AWS_PROFILE AWS_SESSION_TOKEN",
    ]
    return "\n".join(lines) + "\n"


def _bucket_is_filled(stack: Stack) -> bool:
    """Makes the bucket and puts the sample into it; False while the server is not ready for both."""
    try:
        made = _signed_put(stack, BUCKET, b"")
        if made.status_code not in (httpx.codes.OK, httpx.codes.CONFLICT):  # it may be there from an earlier stack
            return False
        return _signed_put(stack, f"{BUCKET}/{SAMPLE}", bundled.SAMPLE_CLIP.read_bytes()).is_success
    except httpx.TransportError:
        return False


def _signed_put(stack: Stack, path: str, content: bytes) -> httpx.Response:
    """Signed by hand: a client of boto3's would ask the caller's profile."""
    request = AWSRequest("PUT", f"http://{HOST}:{stack.ports.s3}/{path}", data=content)
    S3SigV4Auth(Credentials(stack.s3_key, stack.s3_secret), "s3", REGION).add_auth(request)
    return _client().put(request.url, content=content, headers=dict(request.headers), timeout=30)


def _deploy(stack: Stack, folder: Path, use_bundled: bool) -> list[str]:
    """What a person would type: `python -m deployments apply`, `prefect deploy --all`. Returns the deployments."""
    environment = _inherited() | stack.environment | _home(folder) | {MARK: stack.id}
    for name, command in (
        ("apply", ["-m", "deployments", "apply", "--pool", "process"]),
        ("deploy", ["-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml")]),
    ):
        process = processes.start(name, [sys.executable, *command], environment, folder)
        status = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        if status:
            raise SetupError(
                f"`{name}` ended with status {status}; its log is {process.log}.", detail=processes.tail(process)
            )
    ours = {PREFECT_API_URL: stack.api_url, PREFECT_API_AUTH_STRING: stack.auth}
    with temporary_settings(ours), get_client(sync_client=True) as client:
        for name in ("analyze-media/default", "backfill-prefix/default") if use_bundled else ():
            found = client.read_deployment_by_name(name)
            client.update_deployment(found.id, DeploymentUpdate(parameters=SAMPLE_PARAMETERS))
        names = {flow.id: flow.name for flow in client.read_flows()}
        return sorted(f"{names[entry.flow_id]}/{entry.name}" for entry in client.read_deployments())


def _worker_is_online(stack: Stack) -> bool:
    url = f"{stack.api_url}/work_pools/reelflow-process/workers/filter"
    answer = _client().post(url, json={}, timeout=10, auth=httpx.BasicAuth(*stack.auth.split(":", 1)))
    return answer.is_success and any(worker["status"] == "ONLINE" for worker in answer.json())


def _wait(process: Process, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        late = time.monotonic() > deadline
        if late or not processes.alive(process):
            what = f"did not answer in {START_TIMEOUT_S:.0f} s" if late else "ended at its start"
            raise SetupError(
                f"{process.name} {what}, so everything was stopped; its log is {process.log}.",
                detail=processes.tail(process),
            )
        time.sleep(0.2)


def _has_said(process: Process, words: str) -> bool:
    return words in process.log.read_text("utf-8", errors="replace")


@cache
def _client() -> httpx.Client:
    """Kept: each new one reads all the certificates of the host."""
    return httpx.Client(timeout=5, trust_env=False)


def _answers(url: str) -> bool:
    try:
        return _client().get(url).status_code < 500
    except httpx.TransportError:
        return False


def _require_free(ports: Ports) -> None:
    for name, port in ports.model_dump().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise SetupError(
                    f"Port {port}, meant for {name}, is taken ({error.strerror}): end what listens there, or choose "
                    f"another, for example `python -m deployments up --{name}-port {port + 1000}`."
                ) from error


def _stop(stack: Stack, folder: Path) -> int:
    ended = processes.end(stack.id, reversed(stack.processes))
    shutil.rmtree(folder / TLS, ignore_errors=True)
    (folder / "stack.json").unlink(missing_ok=True)
    (folder.parent / "stack.env").unlink(missing_ok=True)
    return ended


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    """A new file that nobody else may read, whatever lay there before."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise SetupError("Another `up` or `down` is at work in this checkout; wait for it to end.") from error
