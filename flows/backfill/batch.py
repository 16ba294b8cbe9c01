"""Many media at a time on one cluster: a bounded number of flow runs in flight, each for one media or several short."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import Context
from typing import Any, TypeVar, cast

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SettingsContext, TagsContext
from prefect.flow_engine import run_flow
from prefect.states import Completed, Failed

from flows import summary
from flows.analyze_media import analyze_media
from flows.analyze_short import analyze_short_media
from tasks.core.errors import ReelflowError, SetupError
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import AnalyzeReport
from tasks.records.lookup import failed, unexpected

LIST_IN_FLIGHT = 4
"""Media of one run that are analysed at the same time; short ones that share a run count as one."""

TOGETHER = 16
"""Short media that share a flow run."""

T = TypeVar("T")
R = TypeVar("R")


def analyze_one(
    source: str, store: str, options: AnalyzeOptions, version: str = "", *, run: FlowRun | None = None
) -> AnalyzeReport:
    """Runs the flow; a failure becomes a report. Raises SetupError, which every other source would meet as well.

    `version` is the source's, as a listing gave it; `run` is a flow run that was made for it and has not begun.
    """
    started = time.monotonic()
    try:
        versions = {source: version} if version else {}
        asked = {"source": source, "store": store, "options": options, "versions": versions}
        state: Any = run_flow(analyze_media, flow_run=run, parameters=asked, return_type="state")
        found = cast(Any, state).result(raise_on_failure=False, _sync=True)
        if isinstance(found, BaseException):
            raise found
        return AnalyzeReport.model_validate(found)
    except SetupError:
        raise
    except ReelflowError as error:
        return failed(source, error, started)
    except Exception as error:
        return failed(source, unexpected(error), started)


def analyze_together(
    sources: Sequence[str], store: str, options: AnalyzeOptions, versions: Mapping[str, str]
) -> list[AnalyzeReport]:
    """Runs a flow for those that are short, and one for each of the others; their reports, in order.

    One source is none to share with.  Raises SetupError, as analyze_one.
    """
    reports: Sequence[Any] = [None] * len(sources)
    if len(sources) > 1:
        asked = {"sources": list(sources), "store": store, "options": options}
        state: Any = run_flow(analyze_short_media, parameters=asked, return_type="state")
        found = state.result(raise_on_failure=False, _sync=True)
        if isinstance(found, SetupError):
            raise found
        if isinstance(found, list):
            reports = found
    return [
        AnalyzeReport.model_validate(report)
        if report
        else analyze_one(source, store, options, versions.get(source, ""))
        for source, report in zip(sources, reports, strict=True)
    ]


def shared_out(sources: Sequence[T], runs: int, most: int = TOGETHER) -> Iterator[list[T]]:
    """Sources in even groups of at most `most`: about as many groups as runs, or more."""
    size = max(1, min(most, math.ceil(len(sources) / runs)))
    groups = math.ceil(len(sources) / size)
    for number in range(groups):
        yield list(sources[number * len(sources) // groups : (number + 1) * len(sources) // groups])


def analyze_list(
    sources: list[str], store: str, options: AnalyzeOptions, versions: Mapping[str, str]
) -> State[list[dict[str, Any]]]:
    """The state of a run that was given several sources; its data and its table are their reports."""

    def work(group: list[str]) -> list[AnalyzeReport]:
        started = time.monotonic()
        try:
            return analyze_together(group, store, options, versions)
        except SetupError as error:
            return [failed(source, error, started) for source in group]

    groups = shared_out(sources, LIST_IN_FLIGHT)
    reports = [report for _, some in in_parallel(work, groups, LIST_IN_FLIGHT) for report in some]
    create_table_artifact(summary.source_rows(reports), key="sources", description="What became of each source")
    counts = Counter(report.status for report in reports)
    message = ", ".join(f"{count} {status}" for status, count in counts.items())
    data = [report.model_dump() for report in reports]
    if counts["failed"]:
        return Failed(message=message, data=data)
    if counts["quarantined"]:
        return Failed(name="Quarantined", message=message, data=data)
    return Completed(message=message, data=data)


def in_parallel(
    work: Callable[[T], R], items: Iterable[T], in_flight: int, *, in_order: bool = False
) -> Iterator[tuple[T, R]]:
    """Each item with what `work` made of it, as they are ready; at most `in_flight` at a time, and as many items taken.

    Flow runs that `work` starts are runs of their own, not children of a run in whose body this is called: a graph of
    thousands of children helps nobody. The first exception of `work` ends the iteration, after the work in flight is
    done; one of `items` after what was taken before it is given.
    """
    here = apart()
    taken = iter(items)
    broken: Exception | None = None
    running: dict[Future[R], T] = {}
    with ThreadPoolExecutor(in_flight, thread_name_prefix="reelflow-media") as pool:
        while True:
            try:
                while broken is None and len(running) < in_flight and (item := next(taken, None)) is not None:
                    running[pool.submit(here.copy().run, work, item)] = item
            except Exception as error:
                broken = error
            if not running:
                if broken:
                    raise broken
                return
            waited = wait([next(iter(running))] if in_order else running, return_when=FIRST_COMPLETED)
            for ready in waited.done:
                yield running.pop(ready), ready.result()


def apart() -> Context:
    """A context with the settings and tags of this one, and without its flow run: its runs are nobody's children."""
    context = Context()
    for current in (SettingsContext.get(), TagsContext.get()):
        if current is not None:
            context.run(current.model_copy().__enter__)
    return context
