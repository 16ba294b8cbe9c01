"""Several short media in one flow run: what a run and its tasks cost is shared, what becomes of a media is not."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import parameters, summary
from flows.analyze_media import bank_of, is_done, near, notices_of
from flows.task_runner import ClusterTaskRunner
from tasks.core.errors import ReelflowError
from tasks.core.fetch import display_source
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import AnalyzeReport, MediaRef
from tasks.models import resolve_models
from tasks.records.lease import Lease, exclusive
from tasks.records.results import forget_name, result_key, result_path
from tasks.records.sources import remember
from tasks.stages import short
from tasks.store import Store, open_store


def _run_name() -> str:
    return f"analyze short media: {summary.label(flow_run.parameters.get('sources', []))}"


@flow(name="analyze-short-media", flow_run_name=_run_name, task_runner=ClusterTaskRunner(), validate_parameters=True)
def analyze_short_media(
    sources: list[parameters.Source],
    store: str,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
) -> Any:
    """Turns short video or audio files into transcripts, detections and reports.

    Its data are the reports in order. There is none for a source that is not short, that another run works on, or that
    did not come to its end: it takes a run of its own, which sets it aside where it is bad.

    Args:
        sources: Paths, file:///..., s3://bucket/key or https://... URLs.
        store: Root of the store: a folder, file:///... or s3://bucket/prefix.
        options: What to do, by stage.
    """
    parameters.check(sources, store, options)
    started = time.monotonic()
    root = open_store(store)
    fetched, resolved = near(short.fetch_each, sources, root.address, options.limits), near(resolve_models, options)
    models, notices = resolved.result()
    reports: dict[str, AnalyzeReport] = {}
    with ExitStack() as leases:
        mine: dict[str, short.Fetched] = {}
        for source, found in zip(sources, fetched.result(), strict=True):
            if found is None or not _take(leases, root, found.media):
                continue
            if is_done(root, found.media, result_key(found.media.media_id, options, models)):
                reports[source] = _settled(source, root, found.media, options, started)
            else:
                mine[source] = found
        bank = bank_of(root.address, options, models) if mine and "embeddings" in models else None
        decoded: Any = short.decode_each.submit(list(mine.values()), options, models)
        recognized: Any = short.recognize_each.submit(decoded, options, models)
        published = short.publish_each.submit(recognized, bank, options, models, notices_of(root, notices))
        for (source, found), cost_usd in zip(mine.items(), published.result(), strict=True):
            if cost_usd is not None:
                reports[source] = _settled(source, root, found.media, options, started, cost_usd)
    create_table_artifact(summary.source_rows(reports.values()), key="sources", description="What became of each")
    left = len(sources) - len(reports)
    return Completed(
        message=f"{len(reports)} settled, {left} left to runs of their own",
        data=[reports[source].model_dump() if source in reports else None for source in sources],
    )


class _Held(ReelflowError):
    """Another run has the lease."""


def _take(leases: ExitStack, root: Store, media: MediaRef) -> bool:
    """Takes the lease of a media, unless that would mean to wait for it."""

    def give_way(_: Lease) -> None:
        raise _Held("")

    try:
        leases.enter_context(exclusive(root, media.media_id, waiting=give_way))
    except ReelflowError:
        return False
    return True


def _settled(
    source: str, root: Store, found: MediaRef, options: AnalyzeOptions, started: float, cost_usd: float | None = None
) -> AnalyzeReport:
    """The report of a source that has a result, noted for backfills; with a cost where it was made now."""
    report = AnalyzeReport(
        source=display_source(source),
        media_id=found.media_id,
        status="cached" if cost_usd is None else "done",
        result=root.uri(result_path(found.media_id)),
        seconds=round(time.monotonic() - started, 3),
        cached=cost_usd is None,
        cost_usd=cost_usd or 0.0,
    )
    remember(root, source, found.version, options, report)
    forget_name(root, source)
    return report
