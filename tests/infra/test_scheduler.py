"""The scheduler as the clusters of infra/ start it: demand by resource, and which workers an autoscaler may close."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from distributed import Client, Worker
from distributed.core import rpc

from tests.infra.manifests import pod_specs
from tests.source_tree import ROOT

START_S = 60
ROUTES = "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"


def _routes() -> str:
    """What the operator's scheduler answers in plain HTTP."""
    [container] = pod_specs("operator")["DaskCluster/reelflow/scheduler"]["containers"]
    return next(str(entry["value"]) for entry in container["env"] if entry["name"] == ROUTES)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[tuple[str, str]]:
    """Addresses (Dask's, the web server's) of a real `dask scheduler` with the preload."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--dashboard-address", "127.0.0.1:0", "--preload", "infra.scheduler"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A local cluster of this test process leaves its settings in the environment, the log level among them.
        env={name: value for name, value in os.environ.items() if not name.startswith("DASK_")} | {ROUTES: _routes()},
    )
    try:
        yield _addresses(process)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _addresses(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stderr
    seen = ""
    for line in process.stderr:
        seen += line
        dask = re.search(r"Scheduler at:\s+(tcp://\S+)", seen)
        web = re.search(r"dashboard at:\s+(http://\S+?)/status", seen)
        if dask and web and "Run preload setup" in seen:
            return dask[1], web[1]
    raise AssertionError(f"the scheduler ended at its start: {seen}")


def hold(seconds: float) -> None:
    time.sleep(seconds)


async def _until(condition: Callable[[], Any], timeout_s: float = START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def _ask(address: str, web: str) -> dict[str, Any]:
    """Two CPU workers, one of them busy, an idle GPU worker; more tasks than workers."""
    seen: dict[str, Any] = {}

    async def demand() -> Any:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{web}/demand")
        assert answer.status_code == httpx.codes.OK
        return answer.json()

    async def target() -> tuple[int, list[str]]:
        async with httpx.AsyncClient() as operator:
            answer = await operator.get(f"{web}/api/v1/adaptive_target")
        async with rpc(address) as operator:
            assert await operator.adaptive_target() == answer.json()["workers"]
            return answer.json()["workers"], list(await operator.workers_to_close(n=1, attribute="name"))

    with ThreadPoolExecutor(1) as cpu_1, ThreadPoolExecutor(1) as cpu_2, ThreadPoolExecutor(1) as gpu:
        async with (
            Client(address, asynchronous=True, set_as_default=False) as client,
            Worker(address, name="cpu-1", nthreads=1, resources={"CPU": 1}, executor=cpu_1, dashboard=False) as busy,
            Worker(address, name="cpu-2", nthreads=1, resources={"CPU": 1}, executor=cpu_2, dashboard=False),
            Worker(address, name="gpu-1", nthreads=1, resources={"GPU": 1}, executor=gpu, dashboard=False) as idle,
        ):
            seen["rest"] = await demand()
            running = client.submit(hold, 1.5, resources={"CPU": 1}, workers=["cpu-1"], pure=False)
            await _until(lambda: busy.state.executing_count)
            seen["one"] = await demand()
            seen["one_target"], seen["one_close"] = await target()
            waiting = client.map(hold, [0.01] * 5, resources={"GPU": 1}, pure=False)
            waiting += client.map(hold, [0.01] * 3, resources={"CPU": 1}, workers=["cpu-1"], pure=False)
            await _until(lambda: idle.state.tasks)
            seen["burst_target"], seen["burst_close"] = await target()
            await client.gather([running, *waiting])
            del running, waiting
            await asyncio.sleep(0.2)
            seen["done"] = await demand()
    return seen


@pytest.fixture(scope="module")
def seen(scheduler: tuple[str, str]) -> dict[str, Any]:
    return asyncio.run(_ask(*scheduler))


def test_demand_counts_what_waits_and_runs_by_resource(seen: dict[str, Any]) -> None:
    assert seen["rest"] == {"CPU": {"tasks": 0, "workers": 2}, "GPU": {"tasks": 0, "workers": 1}}
    assert seen["one"] == {"CPU": {"tasks": 1, "workers": 2}, "GPU": {"tasks": 0, "workers": 1}}
    assert seen["done"]["CPU"]["tasks"] == seen["done"]["GPU"]["tasks"] == 0


def test_an_autoscaler_of_cpu_workers_wants_them_for_cpu_tasks_only(seen: dict[str, Any]) -> None:
    assert seen["one_target"] == 1
    assert seen["burst_target"] == 4


def test_an_autoscaler_never_closes_an_idle_gpu_worker(seen: dict[str, Any]) -> None:
    assert seen["one_close"] == ["cpu-2"]
    assert seen["burst_close"] == ["cpu-2"]
