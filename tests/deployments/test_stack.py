"""`up`, a deployment run from another shell, `down`: as a user does it, with the real parts on free ports."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest
from distributed import Client

from deployments import processes, stack
from tasks.core.ports import free_port
from tests.source_tree import ROOT


class Shell:
    """Commands with the ports and the folder of one stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stack"
        self.ports = {name: str(free_port()) for name in ("prefect", "s3", "dask", "dashboard")}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_", "REELFLOW_"))}
        self._environment |= {"REELFLOW_CACHE_DIR": str(folder / "cache"), "AWS_PROFILE": "a-real-account"}

    def deployments(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        arguments = ["-m", "deployments", command, "--folder", str(self.folder), *more]
        return self._run([sys.executable, *arguments])

    def up(self, **ports: str) -> subprocess.CompletedProcess[str]:
        flags = [flag for name, port in (self.ports | ports).items() for flag in (f"--{name}-port", port)]
        return self.deployments("up", "--bundled", *flags)

    def sourced(self, command: str) -> subprocess.CompletedProcess[str]:
        """What a person types after `source .reelflow/stack.env`, from another folder."""
        return self._run(["bash", "-c", f'source "{self.folder.parent}/stack.env" && {command}'], self.folder.parent)

    def stored(self, prefix: str) -> dict[str, bytes]:
        """Objects of the stack's bucket, by the keys of its stack.env."""
        exports = (self.folder.parent / "stack.env").read_text("utf-8")
        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        keys = {
            key: re.findall(rf"^export {name}='?([^'\n]+)", exports, re.MULTILINE)[0] for key, name in names.items()
        }
        s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.ports['s3']}", region_name="us-east-1", **keys)
        listed = s3.list_objects_v2(Bucket="reelflow", Prefix=prefix)["Contents"]
        return {o["Key"]: s3.get_object(Bucket="reelflow", Key=o["Key"])["Body"].read() for o in listed}

    def _run(self, command: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, env=self._environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.deployments("down")


@pytest.mark.slow
def test_up_two_runs_of_one_media_on_the_external_workers_down_and_up_again(shell: Shell) -> None:
    started = shell.up()
    assert started.returncode == 0, started.stdout + started.stderr
    assert f"http://127.0.0.1:{shell.ports['prefect']}" in started.stdout
    command = "prefect deployment run 'analyze-media/default' -p source=s3://reelflow/inbox/sample.mp4 --watch"
    assert command in started.stdout
    record = stack.running(shell.folder)
    assert record is not None
    assert all(link in started.stdout for link in record.pages)
    assert all(link in shell.deployments("status").stdout for link in record.pages)

    again = shell.up()
    assert again.returncode == 1
    assert "The stack runs already" in again.stderr

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(shell.sourced, [command] * 2))
    for done in runs:
        assert done.returncode == 0, (
            done.stdout + done.stderr + (shell.folder / "prefect-worker.log").read_text("utf-8")
        )
    states = [re.findall(r"finished successfully in '(\w+)'", " ".join(done.stdout.split())) for done in runs]
    assert sorted(states) == [["Cached"], ["Done"]]
    stored = shell.stored("store/media/")
    [result] = [key for key in stored if key.endswith("/result.json")]
    made_on = [json.loads(body)["made_by"]["pid"] for key, body in stored.items() if key.endswith("artifact.json")]
    record = stack.running(shell.folder)
    assert record is not None
    members = processes.members(record.id)
    assert len(made_on) >= 8
    assert set(made_on) <= set(members)
    assert processes.memory(record.id) > 2**28

    nobody = httpx.post(f"{record.api_url}/flows/", content=b'{"name": "attack"}', timeout=30)
    assert nobody.status_code == httpx.codes.UNAUTHORIZED
    with pytest.raises(OSError, match=r"reset|closed"):
        Client(f"tcp://127.0.0.1:{shell.ports['dask']}", timeout=10, set_as_default=False)
    secret = record.auth.partition(":")[2].encode()
    assert not [pid for pid in members if secret in Path(f"/proc/{pid}/cmdline").read_bytes()]
    holds = {path.name for path in shell.folder.parent.rglob("*") if path.is_file() and secret in path.read_bytes()}
    assert holds == {"stack.env", "stack.json"}
    private = [shell.folder.parent / "stack.env", shell.folder / "stack.json", shell.folder / "tls" / "tls.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(shell.folder.stat().st_mode) == 0o700

    bystander = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    ended = shell.deployments("down")
    assert ended.returncode == 0, ended.stderr
    assert processes.members(record.id) == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert not [path for path in private if path.exists()]
    assert not (shell.folder / "stack.json").exists()
    assert "No stack runs" in shell.deployments("down").stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{shell.ports['prefect']}/api/health", timeout=5)

    assert shell.up().returncode == 0
    assert shell.stored(result) == {result: stored[result]}


def test_a_port_that_is_taken_is_named_before_anything_starts(shell: Shell) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        done = shell.up(dask=taken)
    assert done.returncode == 1
    assert f"Port {taken}, meant for dask, is taken" in done.stderr
    assert "--dask-port" in done.stderr
    assert not list(shell.folder.glob("*.log"))


def test_a_part_that_does_not_come_up_stops_the_rest_and_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.core.errors import SetupError

    ports = {name: free_port() for name in ("prefect", "s3", "dask", "dashboard")}
    seen: list[str] = []
    start = processes.start

    def sabotaged(name: str, command: list[str], environment: dict[str, str], folder: Path) -> processes.Process:
        seen.append(environment[processes.MARK])
        if name == "s3":
            command = [sys.executable, "-c", "raise SystemExit('the disk is on fire')"]
        return start(name, command, environment, folder)

    monkeypatch.setattr(processes, "start", sabotaged)
    with pytest.raises(SetupError, match="s3 ended at its start, so everything was stopped") as raised:
        stack.up(stack.Ports(**ports), tmp_path / "stack")
    assert "the disk is on fire" in raised.value.detail
    assert processes.members(seen[0]) == []
    assert stack.running(tmp_path / "stack") is None


def test_a_secret_is_written_where_nobody_else_can_read_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("public")
    for there in ("open", "link"):
        path = tmp_path / there
        path.symlink_to("elsewhere") if there == "link" else path.touch(mode=0o666)
        stack._write_private(path, "secret")
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert path.read_text() == "secret"
    assert (tmp_path / "elsewhere").read_text() == "public"


def test_a_process_that_took_over_a_number_is_left_alone(tmp_path: Path) -> None:
    """`down` knows a process by what it carries, not by its number."""
    stranger = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    mine = processes.start("mine", ["sleep", "600"], {processes.MARK: "mine", "PATH": os.environ["PATH"]}, tmp_path)
    stale = mine.model_copy(update={"name": "stale", "pid": stranger.pid})  # it may even have started at the same tick
    assert processes.end("mine", [stale, mine]) == 1
    os.waitpid(mine.pid, 0)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
