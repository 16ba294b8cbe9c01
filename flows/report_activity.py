"""A report of what cameras saw, as a flow run: for schedules, for people with the UI, and for messages."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from flows import parameters, summary
from flows.activity import ActivityReport, make_report, markdown, period, stored
from tasks.core.options import AnalyzeOptions
from tasks.settings import settings


def _run_name() -> str:
    given = flow_run.parameters
    return f"report: {summary.label(given.get('since', ''))} to {summary.label(given.get('until', ''))}"


@flow(name="report-activity", flow_run_name=_run_name, validate_parameters=True)
def report_activity(
    recordings: parameters.Source | None = None,
    store: parameters.Store = None,
    cameras: Annotated[list[str], Field(max_length=1000)] = [],  # noqa: B006
    since: str = "yesterday",
    until: str = "today",
    timezone: str = "UTC",
) -> ActivityReport:
    """Reports what cameras saw between two moments: visits, alerts, speech, scenes, gaps, lag and cost.

    Args:
        recordings: Where `ingest` puts windows: s3://bucket/prefix or a folder. Without it the store's results count,
            and gaps are not known.
        store: Root of the store: a folder, file:///..., s3://bucket/prefix or s3-bucket/NAME. Default: REELFLOW_STORE.
        cameras: Names of cameras. Default: all.
        since: A day (2026-11-21), a moment, today, yesterday, or how long ago: 36h, 7d.
        until: Before this; a day is its first moment.
        timezone: Of days and hours, for example Europe/Berlin.
    """
    parameters.check([recordings] if recordings else [], store, AnalyzeOptions())
    root = stored(store or settings().store, recordings)
    report, found = make_report(root, period(since, until, timezone), recordings, cameras)
    create_markdown_artifact(
        markdown(found, report.page), key=f"report-{report.id}", description=summary.plain(report.sentence())
    )
    return report
