"""Flows run in this process: a server and a cluster of its own where none is named, one flow run per source."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from flows.console import progress
from flows.local_server import prefect_api
from tasks.core.errors import ReelflowError
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.core.schema import AnalyzeReport, Result
from tasks.lookup import answer
from tasks.results import read_result
from tasks.settings import settings
from tasks.store import open_store


def analyze_sources(sources: Sequence[str], store: str | None, assignments: Sequence[str]) -> Iterator[AnalyzeReport]:
    """Analyses each source and yields its report, in order. Raises UnknownOption before anything starts.

    The server and the cluster start when the first source needs them.
    """
    options = parse_options(assignments)
    root = store or settings().store
    with ExitStack() as stack:
        running = False
        for source in sources:
            report = _answer(source, root, options)
            if report is None:
                if not running:
                    stack.enter_context(engine())
                    running = True
                report = _analyze(source, root, options)
            yield report


def committed_result(report: AnalyzeReport, store: str | None) -> Result | None:
    """The result that a report speaks of."""
    if report.result is None or report.media_id is None:
        return None
    found = read_result(open_store(store or settings().store), report.media_id)
    return found[0] if found else None


def _answer(source: str, store: str, options: AnalyzeOptions) -> AnalyzeReport | None:
    started = time.monotonic()
    try:
        return answer(source, store, options)
    except ReelflowError as error:
        return _failed(source, error, started)


def _analyze(source: str, store: str, options: AnalyzeOptions) -> AnalyzeReport:
    from flows.analyze_media import analyze_media
    from flows.summary import label

    started = time.monotonic()
    try:
        with progress(label(source)):
            state = analyze_media(source=source, store=store, options=options, return_state=True)
            return AnalyzeReport.model_validate(cast(Any, state).result(_sync=True))
    except ReelflowError as error:
        return _failed(source, error, started)
    except Exception as error:
        logging.getLogger("reelflow").debug("unexpected failure", exc_info=error)
        message = (
            f"Unexpected {type(error).__name__}: {error}. REELFLOW_DEBUG=1 prints the traceback; please report it."
        )
        return _failed(source, ReelflowError(message), started)


def _failed(source: str, error: ReelflowError, started: float) -> AnalyzeReport:
    return AnalyzeReport(
        source=display_source(source),
        media_id=None,
        status="failed",
        result=None,
        seconds=round(time.monotonic() - started, 3),
        cached=False,
        error={"code": error.code, "message": error.message},
    )


@contextmanager
def engine() -> Iterator[None]:
    """A Prefect API and a Dask cluster for the block; both start side by side with the imports."""
    if os.environ.get("REELFLOW_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    from flows.local_cluster import local_scheduler, stop_local_cluster

    with prefect_api():
        if settings().dask_address is None:
            threading.Thread(target=local_scheduler, name="reelflow-cluster", daemon=True).start()
        try:
            yield
        finally:
            stop_local_cluster()
