"""A process that imports once and is forked for each process that needs the same (multiprocessing's fork server)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Mapping
from multiprocessing import forkserver, util
from typing import Any

from tasks.core.errors import SetupError


def start(modules: Iterable[str], environment: Mapping[str, str] | None = None) -> Any:
    """The multiprocessing context of this process's fork server, which begins to import the modules in the background.

    There is one per process, and it keeps the modules and the environment variables of its first start.
    """
    context = multiprocessing.get_context("forkserver")
    # Python 3.11.0 would take an abstract socket, to which every user of the host can send code (CVE-2022-42919).
    vars(util)["abstract_sockets_supported"] = False
    context.set_forkserver_preload(list(modules))
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        forkserver.ensure_running()
    finally:
        for name in environment or {}:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
    return context


def wait(context: Any) -> None:
    """Returns when everything is imported: when a first process was forked and has ended. Raises SetupError."""
    process = context.Process(target=_nothing)
    process.start()
    process.join()
    if process.exitcode:
        raise SetupError(
            f"The process that others are forked from is broken: the first one ended with {process.exitcode}."
        )


def _nothing() -> None:
    """What that process does."""
