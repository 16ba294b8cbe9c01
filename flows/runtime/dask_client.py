"""The process' connection to a Dask scheduler, shared by all flow runs in it."""

from __future__ import annotations

import threading
from typing import Any

from distributed import Client

from flows.runtime.local_cluster import local_scheduler, local_security
from tasks.core.errors import NoWorker
from tasks.settings import settings
from tasks.workers.worker import drain

CONNECT_S = 20
"""A TLS handshake on a busy host takes some seconds."""

UNREACHED = (OSError, TimeoutError, TypeError, RuntimeError)
"""What Dask's client raises: the last two for an address that does not fit its certificates (tls:// without, tcp://)."""

_clients: dict[str, Client] = {}
_lock = threading.Lock()


def scheduler_address() -> str:
    """The cluster of this process: REELFLOW_DASK_ADDRESS, or a local one, which is started."""
    return settings().dask_address or local_scheduler()


def worker_count() -> int:
    """Dask workers that are there now."""
    return len(workers(scheduler_address()) or ())


def workers(address: str) -> list[dict[str, Any]] | None:
    """What the scheduler knows of each of its workers; None while it does not answer. Raises NoWorker.

    Client.scheduler_info may give what the client asks for itself from time to time, which names no worker.
    """
    client = connect(address)
    if client.scheduler is None:
        return None
    try:
        found = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=CONNECT_S)
        return list(found["workers"].values())
    except OSError:
        return None


def connect(address: str) -> Client:
    """The connection to the scheduler at an address; made anew when it was lost. Raises NoWorker."""
    with _lock:
        client = _clients.get(address)
        if client is not None and client.status in ("running", "connecting"):
            return client
        try:
            client = Client(address, security=local_security(address), set_as_default=False, timeout=CONNECT_S)
        except UNREACHED as error:
            raise NoWorker(
                f"No Dask scheduler answers at {address}, or it asks for another certificate ({error}). Start one with "
                "`dask scheduler`, give this command the cluster's certificate (`python -m deployments certificates`), "
                "or unset REELFLOW_DASK_ADDRESS to use a local cluster."
            ) from error
        _clients[address] = client
        return client


def leave(api: str) -> None:
    """Lets the workers send what they still hold for a Prefect API that is about to end."""
    for client in tuple(_clients.values()):
        if client.status == "running":
            client.run(drain, api, on_error="ignore")


def disconnect() -> None:
    """Closes every connection of this process."""
    with _lock:
        while _clients:
            _clients.popitem()[1].close()
