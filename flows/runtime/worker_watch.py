"""Are there workers that can do what a run waits for? Dask would wait for them for ever, and in silence."""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from flows.runtime.dask_client import scheduler_address, workers
from flows.runtime.local_server import check_reach
from tasks.core.errors import NoWorker
from tasks.settings import settings

WATCH_S = 2.0
"""How often a run that waits for a task looks whether workers are there that can do it."""

LOCAL_START_S = 120.0
"""Workers of the local cluster start, and start again when they die, by themselves: the time that this may take."""

LOCAL_RESTART_S = 5.0
"""By then such a worker is there again, as a rule, and nobody needs to hear of it."""

LOG = logging.getLogger("reelflow.cluster")
"""For people: the command line prints its warnings."""

_ASK_AGAIN_S = 1.0


class Offers:
    """What the workers of one cluster offer, for all flow runs of a process."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._asked = 0.0
        self._now: frozenset[str] = frozenset()
        self._ever: set[str] = set()
        self._missed: set[str] = set()
        self.hosts: frozenset[str] = frozenset()
        """Where the workers are, as the scheduler sees them."""
        self.workers = 0

    def has(self, resource: str) -> bool:
        """Does some worker offer at least one of it? The scheduler is asked once a second at most."""
        with self._lock:
            if time.monotonic() - self._asked > _ASK_AGAIN_S and (found := workers(self._address)) is not None:
                self._asked = time.monotonic()
                self._now = frozenset(name for w in found for name, amount in w["resources"].items() if amount >= 1)
                self._ever |= self._now
                self.hosts, self.workers = frozenset(w["host"] for w in found), len(found)
            return resource in self._now

    def had(self, resource: str) -> bool:
        """Did some worker offer it before? Adaptive clusters start another one when a task waits for it."""
        return resource in self._ever

    def tell(self, resource: str, message: str, *, missing: bool) -> None:
        """Says that a resource is missing, or that it is back: once, however many flow runs notice."""
        with self._lock:
            if missing == (resource in self._missed):
                return
            (self._missed.add if missing else self._missed.discard)(resource)
        LOG.warning(message)


@lru_cache(maxsize=8)
def offers(address: str) -> Offers:
    """The one of this process for the cluster at an address."""
    return Offers(address)


class WorkerWatch:
    """What one flow run knows of the workers that its tasks need."""

    def __init__(self) -> None:
        self._required: set[str] = set()
        self._missing: dict[str, float] = {}
        """Resources that no worker offers, and since when (time.monotonic)."""
        self._told: set[str] = set()

    def require(self, resource: str) -> None:
        """Returns when a worker offers the resource, or has done so before.

        Raises NoWorker when none comes in time, SetupError where the workers cannot reach this run's API.
        """
        if resource in self._required:
            return
        found = offers(scheduler_address())
        patience_s = settings().worker_wait_s if settings().dask_address else LOCAL_START_S
        deadline = time.monotonic() + patience_s
        while not found.has(resource) and not found.had(resource):
            if time.monotonic() > deadline:
                raise NoWorker(_lacking(resource, "offers"))
            time.sleep(0.2)
        check_reach(found.hosts)
        self._required.add(resource)

    def look(self, resource: str) -> None:
        """Warns when no worker offers a resource that tasks wait for, and when one does again.

        Raises NoWorker when none has come for REELFLOW_WORKER_LOST_S.
        """
        found, elsewhere = offers(scheduler_address()), bool(settings().dask_address)
        if found.has(resource):
            if self._missing.pop(resource, None) is not None:
                self._tell(resource, f"A Dask worker offers {resource} again; the run goes on.", missing=False)
            return
        missing_s = time.monotonic() - self._missing.setdefault(resource, time.monotonic())
        patience_s = settings().worker_lost_s if elsewhere else LOCAL_START_S
        message = _lacking(resource, "is left that offers")
        if missing_s >= patience_s:
            raise NoWorker(f"{message}. None came in {patience_s:.0f} s; finished stages are kept, run it again.")
        if elsewhere or missing_s > LOCAL_RESTART_S:
            self._tell(resource, f"{message}. The run waits for one for {patience_s:.0f} s.", missing=True)

    def _tell(self, resource: str, message: str, *, missing: bool) -> None:
        """Once in the run's log, and once in the process' own."""
        if missing == (resource in self._told):
            return
        (self._told.add if missing else self._told.discard)(resource)
        if FlowRunContext.get():
            get_run_logger().warning(message)
        offers(scheduler_address()).tell(resource, message, missing=missing)


def _lacking(resource: str, verb: str) -> str:
    address = scheduler_address()
    return (
        f"No Dask worker at {address} {verb} the resource {resource} ({offers(address).workers} workers are there). "
        f"Start one: dask worker {address} --nthreads 1 --resources {resource}=1 --preload tasks.preload"
    )
