"""`python -m flows.embedded_server PORT [PARENT_PID]`: a Prefect server on loopback, on SQLite with one connection.

With a pool of connections, SQLite refuses a transaction that began to read before another wrote; the server answers 503
and clients wait 2 s before they try again, several times per media. One connection makes them queue instead, which is
how Prefect itself runs on a database in memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, CreateEnginePlugin, make_url

PLUGIN = "reelflow_one_connection"
PR_SET_PDEATHSIG = 1


class OneConnection(CreateEnginePlugin):
    """Bounds the pool of an engine whose URL has `?plugin=reelflow_one_connection`."""

    def update_url(self, url: URL) -> URL:
        return url.difference_update_query(["plugin"])

    def handle_pool_kwargs(self, pool_cls: Any, pool_args: dict[str, Any]) -> None:
        pool_args.update(pool_size=1, max_overflow=0, timeout=60.0)


def main(port: int, parent: int | None = None) -> None:
    """Serves until it is told to end, or until the process `parent`, which started it, ends."""
    if parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    plugins.register(PLUGIN, __name__, OneConnection.__name__)
    import uvicorn
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    with temporary_settings(
        {PREFECT_API_DATABASE_CONNECTION_URL: _queued(PREFECT_API_DATABASE_CONNECTION_URL.value())}
    ):
        from prefect.server.api.server import create_app

        uvicorn.run(create_app, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")


def _queued(database: str) -> str:
    url = make_url(database)
    if url.get_backend_name() != "sqlite":
        return database
    return url.update_query_dict({"plugin": PLUGIN}).render_as_string(hide_password=False)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
