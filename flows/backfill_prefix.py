"""Every media object under a bucket prefix or in a folder: listed in pages, analysed a bounded number at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import BaseModel, Field

from flows import parameters, summary
from flows.backfill.batch import TOGETHER, analyze_together, in_parallel, shared_out
from flows.backfill.plan import counting, make_plan
from flows.backfill.report import BackfillReport
from flows.backfill.tally import Tally
from flows.task_runner import ClusterTaskRunner
from tasks.core.errors import ReelflowError, SourceChanged
from tasks.core.fetch import display_source
from tasks.core.listing import Listed, Selection, list_media
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import AnalyzeReport, ModelInfo
from tasks.models import resolve_models
from tasks.records.artifacts import content_key
from tasks.records.lookup import failed
from tasks.records.sources import recall, request_key
from tasks.settings import settings
from tasks.stages.short import SHORT_BYTES
from tasks.store import Store, open_store, own_objects

LOOKS = 16
"""Objects that are looked up in the store at the same time."""

MOST_RETRIED = 10_000
"""Failures of a backfill that it tries once more at its end; the next backfill tries the others."""


MOST_RUNS = 20
"""Deployment runs that one batch is given in all, however often the backfill is run again."""


class HandOver(BaseModel):
    """Give objects to deployment runs instead of analysing them in this run."""

    deployment: str = Field("analyze-media/default", description="Deployment that analyses them: flow/name")
    batch: int = Field(1, ge=1, le=100, description="Objects per deployment run")


def _run_name() -> str:
    return f"backfill: {summary.label(flow_run.parameters.get('prefix', ''))}"


@flow(name="backfill-prefix", flow_run_name=_run_name, task_runner=ClusterTaskRunner(), validate_parameters=True)
def backfill_prefix(
    prefix: parameters.Source,
    store: parameters.Store = None,
    select: Selection = Selection(),  # noqa: B008
    in_flight: Annotated[int | None, Field(ge=1, le=64)] = None,
    together: Annotated[int, Field(ge=1, le=64)] = TOGETHER,
    retry_quarantined: bool = False,
    dry_run: bool = False,
    hand_over: HandOver | None = None,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
) -> Any:
    """Analyses every media object under a prefix that is not analysed yet.

    What was analysed with the same options before is left alone, and so is what was set aside as bad. It can be stopped
    and started again at any time: nothing is lost and nothing is done twice.

    Args:
        prefix: s3://bucket/prefix, a folder or file:///...
        store: Root of the store: a folder, file:///..., s3://bucket/prefix or s3-bucket/NAME. Default: REELFLOW_STORE.
        select: Which objects are meant.
        in_flight: Media that are analysed at the same time, several short ones that share a run count as one; default:
            four for each Dask worker, from 8 to 32.
        together: Most short media that share a flow run, and its tasks.
        retry_quarantined: Try objects again that were set aside as bad.
        dry_run: Only count, and estimate time and cost.
        hand_over: Give the objects to runs of a deployment instead, for more than one flow process can feed.
        options: What to do with each object, by stage.
    """
    parameters.check([prefix], store, options)
    root = open_store(store or settings().store)
    if dry_run:
        plan = make_plan(prefix, root, options, select, retry_quarantined=retry_quarantined)
        create_markdown_artifact(plan.markdown(), key="backfill-plan", description="What a backfill would do")
        return Completed(name="Dry run", message=plan.sentence(), data=plan.model_dump())
    root.check()
    tally = Tally(display_source(prefix))
    models, notices = models_for(options)
    for notice in notices:
        get_run_logger().warning(notice)
    listing = partial(list_media, prefix, select, settings().s3, leave_out=own_objects(root))
    with counting(listing, tally):
        looked = _look_up(
            listing(skipped=tally.skip), root, options, models, tally, retry_quarantined=retry_quarantined
        )
        if hand_over:
            _hand_over(looked, root, options, tally, hand_over)
        else:
            _analyze(looked, root, options, tally, in_flight, together)
    return _state(tally.finish(root.root, notices))


def models_for(options: AnalyzeOptions) -> tuple[dict[str, ModelInfo], list[str]]:
    """The models of the stages, as the workers have them, and a notice for each stage that is left out."""
    if settings().dask_address:
        return resolve_models.submit(options).result()
    return resolve_models(options)


def _look_up(
    listing: Iterable[Listed],
    root: Store,
    options: AnalyzeOptions,
    models: dict[str, ModelInfo],
    tally: Tally,
    *,
    retry_quarantined: bool,
) -> Iterator[Listed]:
    """Counts the objects that are settled already, and gives the others."""

    def look(found: Listed) -> AnalyzeReport | None:
        return recall(root, found.source, found.version, options, models, retry_quarantined=retry_quarantined)

    for found, report in in_parallel(look, listing, LOOKS, in_order=True):
        tally.take(found.bytes)
        if report:
            tally.count(report)
        else:
            yield found


def _analyze(
    objects: Iterator[Listed],
    root: Store,
    options: AnalyzeOptions,
    tally: Tally,
    in_flight: int | None,
    together: int,
) -> None:
    first = next(objects, None)
    if first is None:
        return
    in_flight = in_flight or _default_in_flight()
    work = partial(_analyze_group, root, options)
    groups = _groups(chain([first], objects), in_flight, together)
    again: list[tuple[Listed, AnalyzeReport]] = []
    for group, reports in in_parallel(work, groups, in_flight):
        for found, report in zip(group, reports, strict=True):
            tally.count(report)
            unsettled = report.status == "failed" or (report.error or {}).get("code") == SourceChanged.code
            if unsettled and len(again) < MOST_RETRIED:
                again.append((found, report))
    for _, report in again:
        tally.recount(report)
    for _, [report] in in_parallel(work, ([found] for found, _ in again), in_flight):
        tally.count(report)


def _groups(objects: Iterable[Listed], in_flight: int, together: int) -> Iterator[list[Listed]]:
    """Objects that may be short media in groups, all others alone.

    As many are waited for as fill all runs in flight. Fewer are shared out among half as many runs: two for each
    worker, where in_flight is the default, so that one waits for the store while the other works.
    """
    small: list[Listed] = []
    runs = max(1, in_flight // 2)
    for found in objects:
        if found.bytes > SHORT_BYTES:
            yield [found]
            continue
        small.append(found)
        if len(small) == in_flight * together:
            yield from shared_out(small, runs, together)
            small = []
    yield from shared_out(small, runs, together)


def _analyze_group(root: Store, options: AnalyzeOptions, group: list[Listed]) -> list[AnalyzeReport]:
    versions = {found.source: found.version for found in group}
    return analyze_together([found.source for found in group], root.address, options, versions)


def _hand_over(objects: Iterable[Listed], root: Store, options: AnalyzeOptions, tally: Tally, to: HandOver) -> None:
    """One deployment run per batch. Its idempotency key is made of what it is to do: a rerun adds no second one.

    Where the run with that key is over and its objects are still not settled, it is given another key.
    """
    submit = partial(_submit, root, options, to)
    for batch, accepted in in_parallel(submit, _batches(objects, to.batch), LOOKS):
        if accepted:
            tally.hand_over(len(batch))
            continue
        error = ReelflowError(f"{MOST_RUNS} deployment runs ended without settling it; look at their logs.")
        for found in batch:
            tally.count(failed(found.source, error, time.monotonic()))


def _submit(root: Store, options: AnalyzeOptions, to: HandOver, batch: list[Listed]) -> bool:
    """False where the batch has had all the runs that it is given."""
    sources = [found.source for found in batch]
    what = content_key(
        to.deployment, root.root, request_key(options), [[found.source, found.version] for found in batch]
    )
    for attempt in range(MOST_RUNS):
        run: Any = run_deployment(
            to.deployment,
            parameters={
                "source": sources if len(sources) > 1 else sources[0],
                "store": root.address,
                "options": options.model_dump(mode="json"),
                "versions": {found.source: found.version for found in batch},
            },
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{what}-{attempt}",
            tags=["backfill"],
        )
        if run.state is None or not run.state.is_final():
            return True
    return False


def _batches(objects: Iterable[Listed], size: int) -> Iterator[list[Listed]]:
    batch: list[Listed] = []
    for found in objects:
        batch.append(found)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _default_in_flight() -> int:
    """Enough that workers find tasks while other media wait for the store; starts the local cluster."""
    from flows.runtime.dask_client import worker_count

    return max(8, min(32, 4 * worker_count()))


def _state(report: BackfillReport) -> State[dict[str, Any]]:
    if report.failed:
        message = f"{report.failed} of {report.listed} objects failed; run the backfill again for those"
        return Failed(message=message, data=report.model_dump())
    return Completed(message=report.sentence(), data=report.model_dump())
