"""What is measured: a system in its regime, and one workload on it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._clip import PRELOAD
from benchmarks._cpu import processor_seconds
from benchmarks._latency import Level
from benchmarks._outcomes import outcomes
from benchmarks._regimes import (
    REGIMES,
    Deployed,
    Name,
    Regime,
    TargetName,
    ended_by_signal,
    environment,
)
from benchmarks._targets import Deployment, InProcess, Target, offer, prepare
from benchmarks._workload import Workload
from tasks.store import Store, open_store
from tasks.workers.threads import available_cores

WORKERS_S = 120.0


@dataclass(frozen=True)
class System:
    """Where requests go, and what is asked about it."""

    open: Callable[[dict[str, Any] | None], AbstractAsyncContextManager[Target]]
    """Takes Prefect's job variables of each run."""
    store: Store
    cpu_s: Callable[[], dict[str, float]]
    """CPU seconds so far, by part."""
    target: TargetName
    name: Name
    deployed: Deployed | None
    """None where the flow is called in this process."""

    @property
    def regime(self) -> Regime:
        return REGIMES[self.name]


@contextmanager
def system(name: Name, target: TargetName | None, limit: int, *, folder_store: bool = False) -> Iterator[System]:
    """A system in its regime for the block. Raises SetupError when a part does not start."""
    target = target or REGIMES[name].target
    with tempfile.TemporaryDirectory(prefix="reelflow-load-") as path, ExitStack() as ends:
        folder = Path(path)
        ends.enter_context(ended_by_signal())
        roots = str(folder / "store") if folder_store else None
        allowed = {"REELFLOW_ALLOWED_SOURCES": roots, "REELFLOW_ALLOWED_STORES": roots}
        ends.enter_context(environment(REELFLOW_CACHE_DIR=str(folder / "cache"), **allowed))
        export_models()
        if target == "flow":
            yield _in_process(ends, folder, name)
            return
        deployed = ends.enter_context(Deployed(folder, name, target, limit))
        ends.enter_context(environment(**deployed.environment))
        store = open_store(str(folder / "store") if folder_store else deployed.environment["REELFLOW_STORE"])
        yield System(
            open=lambda variables: Deployment.open(deployed.api_url, deployed.auth, store.address, variables),
            store=store,
            cpu_s=lambda: deployed.cpu_s() | {"load generator": time.process_time()},
            target=target,
            name=name,
            deployed=deployed,
        )


def export_models() -> None:
    """What a host makes of the models' weights once (OpenVINO), in a process of its own: no regime is about that."""
    program = f"from tasks.preload import load_models; load_models({PRELOAD!r})"
    subprocess.run([sys.executable, "-c", program], check=True, stdout=sys.stderr, cwd=Path(__file__).parents[1])


async def measure(
    found: System,
    workload: Workload,
    *,
    seconds: float,
    patience_s: float,
    label: str = "",
    job_variables: dict[str, Any] | None = None,
) -> Level:
    """One workload on a system; its progress on stderr. See `offer` for the bounds, Prefect for job variables."""
    from flows.cli.console import count_progress

    label = label or workload.label
    clips = prepare(found.store, workload.count)
    with count_progress(label) as draw:
        async with found.open(job_variables) as target:
            before = found.cpu_s()
            sent = await offer(
                workload,
                target,
                clips,
                lambda ended: draw(f"{label}: {ended} of {workload.count} requests ended", ended, workload.count),
                seconds=seconds,
                patience_s=patience_s,
            )
            spent = {part: cpu_s - before.get(part, 0.0) for part, cpu_s in found.cpu_s().items()}
            requests = await outcomes(sent, found.store)
    return Level(
        label=label,
        pattern=workload.pattern,
        target=found.target,
        regime=found.name,
        concurrency=workload.concurrency,
        rate=workload.rate,
        seed=workload.seed,
        cores=available_cores(),
        cpu_s=spent,
        requests=requests,
    )


def _in_process(ends: ExitStack, folder: Path, name: Name) -> System:
    """Server and cluster of this process, as `python -m flows` starts them."""
    alone = {"PREFECT_API_URL": None, "REELFLOW_DASK_ADDRESS": None}
    ends.enter_context(environment(REELFLOW_PRELOAD_MODELS=REGIMES[name].preload, **alone))
    from flows.runtime.dask_client import worker_count
    from flows.runtime.local_cluster import planned_workers
    from flows.runtime.run import engine

    ends.enter_context(engine())
    deadline = time.monotonic() + WORKERS_S
    while name != "cold" and worker_count() < planned_workers():
        assert time.monotonic() < deadline, f"the local cluster's workers did not come in {WORKERS_S:.0f} s"
        time.sleep(0.1)
    store = open_store(str(folder / "store"))
    return System(
        open=lambda _: InProcess.open(store.address),
        store=store,
        cpu_s=processor_seconds,
        target="flow",
        name=name,
        deployed=None,
    )
