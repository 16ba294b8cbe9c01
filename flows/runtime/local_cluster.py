"""The Dask cluster of one host: worker processes that offer CPU and GPU, started when the first task is submitted."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.runtime import fork_server
from flows.runtime.dask_security import temporary_security
from tasks.core.errors import SetupError
from tasks.core.host import available_cores, available_memory
from tasks.settings import settings
from tasks.workers.threads import LIBRARIES
from tasks.workers.worker import drain

MAX_WORKERS_PER_HOST = 8
"""More processes than this only repeat the models in memory; their threads grow instead."""

WORKER_BYTES = 1536 * 2**20
"""Memory of one process with the libraries, small models and a batch: more processes than fit would end each other."""

ALLOWED_FAILURES = 2
"""Lost workers after which Dask gives a task up. Each costs a new process its imports, and a task that kills three
in a row is to blame itself."""

STEALING_INTERVAL = "100ms"
"""How often an idle worker is given what waits at another (Dask: 1 s): detection waits where its frames were made."""

RESTART_TIMEOUT = "10 minutes"
"""Dask's 15 s would give a worker up that is still importing torch after its restart on a busy machine."""

LOG_LENGTH = 1000
"""Transitions of tasks that the scheduler remembers (Dask: 10,000, tens of MB after a few hundred media)."""

QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
"""What Dask measures for its dashboard, which is off here, from 10 to 500 ms: a tenth of a core with nothing to do."""

NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""Dask's web servers cannot be turned off and ask nobody who they are: they have nothing to tell."""

IDLE_S = 30
"""How long a worker beyond REELFLOW_WORKERS_MIN has nothing to do before it ends, in seconds."""

IMPORTED = ("distributed", "tasks.workers.imported")
"""Modules of the process that workers are forked from."""

_LOG_LEVEL = "critical"
"""Dask tells of every worker that comes and goes; what matters of it reaches the user as an error of the task."""

_lock = threading.Lock()


def begin_imports() -> None:
    """Lets the process that workers are forked from import what they need, while the caller goes on."""
    if _forks():
        fork_server.start(IMPORTED, _before_import())


def local_scheduler() -> str:
    """Address of this process's own cluster; starts it at the first call. It ends with the process.

    Clients need `local_security`.
    """
    with _lock:
        return str(_start().scheduler_address)


def local_security(address: str) -> Any:
    """What lets a client in at this process's own cluster; None for any other, whose is in Dask's configuration."""
    with _lock:
        if _start.cache_info().currsize and _start().scheduler_address == address:
            return _start().security
        return None


def stop_local_cluster() -> None:
    """Ends the cluster after its workers have reported what they ran; nothing to do where none was started."""
    with _lock:
        if not _start.cache_info().currsize:
            return
        from distributed import Client

        cluster = _start()
        with Client(cluster, set_as_default=False) as client:
            client.run(drain)
        cluster.close()
        _start.cache_clear()


@lru_cache(maxsize=1)
def _start() -> Any:
    import dask
    from distributed import SpecCluster
    from distributed.scheduler import Scheduler
    from distributed.utils import get_mp_context

    workers = _workers()
    stated = settings().workers_min
    least = len(workers) if stated is None else min(stated, len(workers))
    if least < len(workers) and visible_gpus():
        raise SetupError(
            "REELFLOW_WORKERS_MIN needs workers that are all alike, and this host's GPUs make them differ: unset it, "
            "or run `dask worker` processes under a cluster manager that scales them (infra/)."
        )
    dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver" if _forks() else "spawn",
            "distributed.nanny.pre-spawn-environ": _before_import(),
            "distributed.admin.tick.limit": "60s",
            "distributed.admin.log-length": LOG_LENGTH,
            **QUIET,
            **NO_PAGES,
            "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
            "distributed.scheduler.work-stealing-interval": STEALING_INTERVAL,
            "distributed.deploy.lost-worker-timeout": RESTART_TIMEOUT,
        }
    )
    get_mp_context()  # its first call names Dask's own modules to the fork server
    begin_imports()
    logging.getLogger("distributed").setLevel(_LOG_LEVEL.upper())
    security = temporary_security()
    for worker in workers:
        worker["options"]["security"] = security
    cluster = SpecCluster(
        workers=dict(enumerate(workers[:least])),
        worker=workers[0],
        scheduler={
            "cls": Scheduler,
            "options": {
                "protocol": "tls",
                "security": security,
                "host": "127.0.0.1",
                "port": 0,
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
            },
        },
        security=security,
        silence_logs=logging.CRITICAL,
        shutdown_on_close=True,
    )
    if least < len(workers):
        cluster.adapt(minimum=least, maximum=len(workers), interval="1s", wait_count=IDLE_S)
    atexit.register(stop_local_cluster)
    return cluster


def _forks() -> bool:
    """Are workers forked? Not where there are GPUs or Apple's libraries: once used, they do not survive a fork."""
    return sys.platform == "linux" and not visible_gpus()


def _before_import() -> dict[str, str]:
    """Environment variables that are read by imports: the threads that each worker may use, and Dask's log."""
    threads = max(1, available_cores() // (planned_workers() + len(visible_gpus())))
    return {name: str(threads) for name in LIBRARIES} | {"DASK_LOGGING__DISTRIBUTED": _LOG_LEVEL}


def _workers() -> list[dict[str, Any]]:
    """Specifications of the worker processes."""
    gpus, count = visible_gpus(), planned_workers()
    if not gpus:
        return [_worker({"CPU": 1, "GPU": 1}) for _ in range(count)]
    on_gpus = [_worker({"GPU": 1}, CUDA_VISIBLE_DEVICES=gpu) for gpu in gpus]
    on_cpus = [_worker({"CPU": 1}, CUDA_VISIBLE_DEVICES="") for _ in range(count)]
    return on_gpus + on_cpus


def planned_workers() -> int:
    """Worker processes of the local cluster besides those of GPUs: REELFLOW_WORKERS, or as many as fit."""
    return settings().workers or workers_that_fit(len(visible_gpus()))


def workers_that_fit(on_gpus: int) -> int:
    """Worker processes that this host has cores and memory for, beside so many of GPUs; at least one."""
    room = min(available_cores(), available_memory() // WORKER_BYTES) - on_gpus
    return min(MAX_WORKERS_PER_HOST, max(1, room))


def _worker(resources: dict[str, int], **environment: str) -> dict[str, Any]:
    from distributed import Nanny

    return {
        "cls": Nanny,
        "options": {
            "nthreads": 1,
            "resources": resources,
            "env": {**os.environ, **environment},  # a forked process has that of the fork server
            "preload": ["flows.runtime.own_group", "tasks.preload"],
            "host": "127.0.0.1",
            "memory_limit": 0,
            "dashboard": False,
        },
    }


def visible_gpus() -> list[str]:
    """Indices of the NVIDIA devices of this host, without importing torch."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return [gpu for gpu in stated.split(",") if gpu.strip() and gpu.strip() != "-1"]
    return [str(i) for i, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]
