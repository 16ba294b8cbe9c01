"""`python -m flows.runtime.embedded_server PORT`: a guarded Prefect server, by default on loopback.

Its SQLite has one connection.

It asks everybody for PREFECT_SERVER_API_AUTH_STRING and does not start without one: who may speak to the API runs code.

With a pool of connections, SQLite refuses a transaction that began to read before another wrote; the server answers 503
and clients wait 2 s before they try again, several times per media. One connection makes them queue instead, which is
how Prefect itself runs on a database in memory.

Prefect writes each state of a task run in a transaction of its own; here they are written together, once a second.
It looks for several of them by natural key, for which SQLite would read the whole table: it is told the flow runs too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import sys
from collections.abc import Sequence
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

SAME_SITE = {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "", "PREFECT_UI_API_URL": "/api"}
"""No page of another origin is let in; Prefect's own pages ask the server that they came from, by whatever name."""

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is told to end, or until the process `--parent`, which started it, ends."""
    given = parser().parse_args(arguments)
    if given.parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != given.parent:
            sys.exit(1)
    plugins.register(PLUGIN, __name__, OneConnection.__name__)
    for name, value in {**RECORDER, **SAME_SITE}.items():
        os.environ.setdefault(name, value)
    import uvicorn
    from prefect.settings import (
        PREFECT_API_DATABASE_CONNECTION_URL,
        PREFECT_SERVER_API_AUTH_STRING,
        temporary_settings,
    )

    from flows.runtime.api_guard import LOOPBACK, Guard

    if not PREFECT_SERVER_API_AUTH_STRING.value():
        sys.exit("Set PREFECT_SERVER_API_AUTH_STRING (user:password): without it anybody runs code through this API.")
    with temporary_settings(
        {PREFECT_API_DATABASE_CONNECTION_URL: _queued(PREFECT_API_DATABASE_CONNECTION_URL.value())}
    ):
        from prefect.server.api.server import create_app

        app = Guard(create_app(), {*LOOPBACK, given.listen, *given.name})
        uvicorn.run(app, host=given.listen, port=given.port, log_level="error", lifespan="on")


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m flows.runtime.embedded_server", description="A guarded Prefect server."
    )
    made.add_argument("port", type=int)
    made.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="[default: 127.0.0.1]")
    made.add_argument(
        "--name", action="append", default=[], help="name besides localhost by which it is reached; several times"
    )
    made.add_argument("--parent", type=int, metavar="PID", help="process whose end is the server's")
    return made


def _queued(database: str) -> str:
    url = make_url(database)
    if url.get_backend_name() != "sqlite":
        return database
    return url.update_query_dict({"plugin": PLUGIN}).render_as_string(hide_password=False)


if __name__ == "__main__":
    main()
