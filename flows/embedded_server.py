"""`python -m flows.embedded_server PORT [PARENT_PID]`: a Prefect server on loopback, on SQLite with one connection.

With a pool of connections, SQLite refuses a transaction that began to read before another wrote; the server answers 503
and clients wait 2 s before they try again, several times per media. One connection makes them queue instead, which is
how Prefect itself runs on a database in memory.

Prefect writes each state of a task run in a transaction of its own; here they are written together, once a second.
It looks for several of them by natural key, for which SQLite would read the whole table: it is told the flow runs too.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, CreateEnginePlugin, Engine, make_url

PLUGIN = "reelflow_one_connection"
PR_SET_PDEATHSIG = 1

RECORDER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""How many states of task runs are written together at most, and after how many seconds at the latest (whole ones)."""

_BY_NATURAL_KEY = re.compile(
    r"\(task_run\.flow_run_id, task_run\.task_key, task_run\.dynamic_key\) IN "
    r"\(VALUES \(:\w+, :\w+, :\w+\)(, \(:\w+, :\w+, :\w+\))*\)"
)


class OneConnection(CreateEnginePlugin):
    """Bounds the pool of an engine whose URL has `?plugin=reelflow_one_connection`; keeps its queries to indexes."""

    def update_url(self, url: URL) -> URL:
        return url.difference_update_query(["plugin"])

    def handle_pool_kwargs(self, pool_cls: Any, pool_args: dict[str, Any]) -> None:
        pool_args.update(pool_size=1, max_overflow=0, timeout=60.0)

    def engine_created(self, engine: Engine) -> None:
        def narrowed(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
            return by_flow_run(statement), parameters

        event.listen(engine, "before_cursor_execute", narrowed, retval=True)


def by_flow_run(statement: str) -> str:
    """The same question with the flow runs of its natural keys, for which SQLite reads an index.

    Such questions are asked by Prefect 3.8's task run recorder; any other statement is given back as it is.
    """

    def narrowed(found: re.Match[str]) -> str:
        flow_runs = ", ".join(re.findall(r"\((:\w+), ", found[0]))
        return f"(task_run.flow_run_id IN ({flow_runs}) AND {found[0]})"

    return _BY_NATURAL_KEY.sub(narrowed, statement)


def main(port: int, parent: int | None = None) -> None:
    """Serves until it is told to end, or until the process `parent`, which started it, ends."""
    if parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    plugins.register(PLUGIN, __name__, OneConnection.__name__)
    for name, value in RECORDER.items():
        os.environ.setdefault(name, value)
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
