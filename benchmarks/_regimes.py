"""Cold, warm and burst-ready: what each means, and a whole stack on this machine that is in that state.

The parts are those of `make up`, on free ports. A regime decides what executes flow runs, which models the workers load
before their first task, and how many requests come before the first that counts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from benchmarks._clip import PRELOAD
from benchmarks._cpu import process_times
from deployments import processes, stack
from deployments.processes import Process
from tasks.core.errors import SetupError
from tasks.core.ports import free_port

TargetName = Literal["deployment", "served", "flow"]
Name = Literal["cold", "warm", "burst-ready"]

POOL = "reelflow-process"
EXECUTOR = "prefect-worker"
"""What executes flow runs, as the stack names it; `served` takes its place and its name."""

STARTED, REGISTERED = "started!", "Registered to:"
"""What the logs of an executor and of a Dask worker say when they are ready."""

READY_S = 120.0
END_S = 20.0
SETTLED_S = 30.0
IDLE_SHARE = 0.2
"""Of one core, that a stack with nothing to do uses at most."""


@dataclass(frozen=True)
class Regime:
    """A state that the system can be in when the first request comes."""

    meaning: str
    target: TargetName
    """What executes flow runs, unless the user says otherwise."""
    preload: str = ""
    """Models that GPU workers load before their first task (REELFLOW_PRELOAD_MODELS)."""
    warm_up: int = 0
    """Requests before the first that counts."""


REGIMES: dict[Name, Regime] = {
    "cold": Regime(
        "a Prefect worker that starts a new Python for each run, Dask workers that have loaded no model", "deployment"
    ),
    "warm": Regime("runs are forked from `python -m flows serve`; all workers have run before", "served", warm_up=6),
    "burst-ready": Regime(
        "runs are forked from `python -m flows serve`; models are loaded before the first request", "served", PRELOAD
    ),
}


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """In the block SIGTERM raises SystemExit, so that what the block has started is ended."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Environment variables of this process for the block; None removes one."""
    before = {name: os.environ.get(name) for name in values}

    def put(new: dict[str, str | None]) -> None:
        for name, value in new.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)

    put(values)
    try:
        yield
    finally:
        put(before)


class Deployed:
    """The stack, for the block; in the regime that it was last told. Raises SetupError when a part does not start."""

    def __init__(self, folder: Path, name: Name, target: TargetName, limit: int) -> None:
        self._folder = folder / "stack"
        self._name: Name = name
        self._target: TargetName = target
        self._limit = limit

    def __enter__(self) -> Self:
        ports = stack.Ports(**{name: free_port() for name in stack.Ports.model_fields})
        preload = REGIMES[self._name].preload
        ours = {"REELFLOW_PRELOAD_MODELS": preload, "REELFLOW_DASK_ADDRESS": None, "REELFLOW_STORE": None}
        with environment(**ours), redirect_stdout(sys.stderr):
            self._stack = stack.up(ports, self._folder, use_bundled=False)
        self._parts = {process.name: process for process in self._stack.processes}
        try:
            self._replace({EXECUTOR: self._executor(self._target)})
        except BaseException:
            stack.down(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stack.down(self._folder)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to speak to it."""
        return self._stack.environment

    @property
    def api_url(self) -> str:
        return self._stack.api_url

    @property
    def auth(self) -> str:
        """Its auth string."""
        return self._stack.auth

    @property
    def workers(self) -> list[str]:
        """Names of the Dask workers."""
        return [name for name in self._parts if name.startswith("dask-") and name != "dask-scheduler"]

    def begin_again(self, name: Name, **variables: str) -> None:
        """Dask workers and what executes flow runs start anew in a regime, as if no request had ever come."""
        commands: dict[str, Sequence[str]] = dict.fromkeys(self.workers, ())
        commands[EXECUTOR] = self._executor(REGIMES[name].target)
        self._replace(commands, REELFLOW_PRELOAD_MODELS=REGIMES[name].preload, **variables)

    def settle(self) -> None:
        """Returns when the parts are through with what their start has set off."""
        deadline = time.monotonic() + SETTLED_S
        before = sum(self.cpu_s().values())
        while time.monotonic() < deadline:
            time.sleep(1)
            now = sum(self.cpu_s().values())
            if now - before < IDLE_SHARE:
                return
            before = now

    def log(self, name: str) -> str:
        """What a part has written."""
        return self._parts[name].log.read_text("utf-8", errors="replace")

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far by part, processes that it started and awaited included."""
        parents, used = {}, {}
        for pid in processes.members(self._stack.id):
            if times := process_times(pid):
                parents[pid], used[pid] = times
        roots = {process.pid: name for name, process in self._parts.items()}
        spent = dict.fromkeys(self._parts, 0.0)
        for pid, seconds in used.items():
            root = pid
            while root in parents and root not in roots:
                root = parents[root]
            name = roots.get(root, "other")
            spent[name] = spent.get(name, 0.0) + seconds
        return spent

    def _executor(self, target: TargetName) -> list[str]:
        """The command that executes flow runs."""
        limit = ["--pool", POOL, "--limit", str(self._limit)]
        served = ["-m", "flows", "serve", *limit]
        return [sys.executable, *(served if target == "served" else ["-m", "prefect", "worker", "start", *limit])]

    def _replace(self, commands: Mapping[str, Sequence[str]], **more: str) -> None:
        """Ends parts and starts their commands, none: the same again; each in the environment that it had, and more."""
        environs = {name: _environ(self._parts[name].pid) | more for name in commands}
        same = {name: _command(self._parts[name].pid) for name in commands}
        _end([self._parts[name] for name in commands])
        for name, command in commands.items():
            self._parts[name] = processes.start(name, command or same[name], environs[name], self._folder)
        for name in commands:
            self._await(name, STARTED if name == EXECUTOR else REGISTERED)

    def _await(self, name: str, words: str) -> None:
        deadline = time.monotonic() + READY_S
        while words not in self.log(name):
            part = self._parts[name]
            if time.monotonic() > deadline or not processes.alive(part):
                raise SetupError(f"{name} did not start; its log is {part.log}.", detail=processes.tail(part))
            time.sleep(0.1)


def _command(pid: int) -> list[str]:
    return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


def _environ(pid: int) -> dict[str, str]:
    pairs = (os.fsdecode(entry).partition("=") for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def _end(parts: Sequence[Process]) -> None:
    """Ends processes; gently, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = [part for part in parts if processes.alive(part)]
        for part in running:
            os.kill(part.pid, number)
        deadline = time.monotonic() + END_S
        while any(map(processes.alive, running)) and time.monotonic() < deadline:
            time.sleep(0.05)
