"""Flows run in this process: a server and a cluster of its own where none is named, one flow run per source."""

from __future__ import annotations

import glob
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.console import Interrupted, Spoken, count_progress, progress
from flows.cli.paths import whole_path
from flows.runtime.local_server import prefect_api
from tasks.core import redaction
from tasks.core.errors import CredentialsRefused, ReelflowError, SetupError, SourceNotFound
from tasks.core.fetch import display_source
from tasks.core.listing import Selection, list_media
from tasks.core.options import FILES, AnalyzeOptions, parse_options
from tasks.core.schema import AnalyzeReport, Result
from tasks.credentials import hold, is_held
from tasks.records.lookup import answer, failed, unexpected
from tasks.records.results import read_result
from tasks.settings import settings
from tasks.store import open_store

if TYPE_CHECKING:
    from flows.backfill.plan import Plan
    from flows.backfill.report import BackfillReport
    from flows.build_text_bank import TextBankReport
    from flows.watch.report import WatchReport
    from flows.watch_bucket import WatchSummary


STAYS_HERE = (
    "The workers of REELFLOW_DASK_ADDRESS cannot know the credentials in this address, which stay with this command: "
    "save it as a Secret block of Prefect, or as REELFLOW_SECRET_NAME where they run, and give secret://NAME."
)


def analyze_sources(sources: Sequence[str], store: str | None, assignments: Sequence[str]) -> Iterator[AnalyzeReport]:
    """Analyses each source and yields its report, in order. Raises UnknownOption before anything starts.

    A pattern (`talks/*.mp4`) stands for the local files that match; one that matches nothing failed. The server and the
    cluster start when the first source needs them.
    """
    options = _options(assignments)
    root = store or settings().store
    held = [hold(source) for source in sources]  # before processes start that inherit the environment
    with ExitStack() as stack:
        running = False
        for source in chain.from_iterable(map(_matching, held)):
            started = time.monotonic()
            try:
                if settings().dask_address and is_held(source):
                    raise CredentialsRefused(STAYS_HERE)
                if _is_pattern(source):
                    raise SourceNotFound(
                        f"{source}: no file matches; correct the pattern, or the folder it begins with."
                    )
                report = answer(source, root, options)
                if report is None and not running:
                    stack.enter_context(engine())
                    running = True
                yield report or _analyze(source, root, options)
            except ReelflowError as error:
                yield failed(source, error, started)
            except Exception as error:
                yield failed(source, unexpected(error), started)


def backfill(
    prefix: str,
    store: str | None,
    assignments: Sequence[str],
    heard: Callable[[AnalyzeReport], None],
    **arguments: Any,
) -> BackfillReport:
    """Runs the backfill flow; `heard` is called with each report as it comes.

    Raises UnknownOption, and for a prefix that cannot be listed SourceNotFound and so on, before anything is started;
    SetupError.
    """
    options = _options(assignments)
    next(list_media(prefix, Selection(), settings().s3), None)
    with engine(cluster_at_once=False):
        from flows.backfill.report import BackfillReport
        from flows.backfill.tally import listener
        from flows.backfill_prefix import backfill_prefix

        with count_progress(display_source(prefix)) as counted:

            def both(report: AnalyzeReport, line: str, done: int, total: int | None) -> None:
                heard(report)
                counted(line, done, total)

            token = listener.set(both)
            try:
                state: Any = backfill_prefix(
                    prefix=prefix, store=store, options=options, return_state=True, **arguments
                )
            finally:
                listener.reset(token)
        ended = state.result(raise_on_failure=False, _sync=True)
        if isinstance(ended, Exception):
            raise ended if isinstance(ended, ReelflowError) else unexpected(ended)
        return BackfillReport.model_validate(ended)


def watch(
    prefix: str,
    store: str | None,
    assignments: Sequence[str],
    heard: Callable[[WatchReport], None],
    stop: threading.Event | None = None,
    **arguments: Any,
) -> WatchSummary:
    """Runs the watcher until SIGTERM, `stop`, Ctrl-C or, if so wanted, an empty queue; `heard` gets each report.

    Raises UnknownOption, and for a prefix that cannot be listed SourceNotFound and so on, before anything is started;
    SetupError.
    """
    options = _options(assignments)
    next(list_media(prefix, Selection(), settings().s3), None)
    os.environ.setdefault("REELFLOW_PRELOAD_MODELS", _named_models(options, assignments))
    with engine():
        from flows.watch_bucket import ALOUD, WatchSummary, ending, listener, watch_bucket

        logging.getLogger(ALOUD).addHandler(Spoken())
        logging.getLogger(ALOUD).setLevel(logging.INFO)
        tokens = listener.set(heard), ending.set(stop or threading.Event())
        try:
            state: Any = watch_bucket(prefix=prefix, store=store, options=options, return_state=True, **arguments)
        finally:
            listener.reset(tokens[0])
            ending.reset(tokens[1])
        ended = state.result(raise_on_failure=False, _sync=True)
        if isinstance(ended, Exception):
            raise ended if isinstance(ended, ReelflowError) else unexpected(ended)
        return WatchSummary.model_validate(ended)


def _named_models(options: AnalyzeOptions, assignments: Sequence[str]) -> str:
    """The options of the stages with models, for workers to load them before the first object."""
    stages = {"transcript": "model", "detections": "weights", "embeddings": "model"}
    enabled = [stage for stage in stages if getattr(options, stage).enabled]
    stated = [each for each in assignments if each.partition(".")[0] in enabled and not any(map(str.isspace, each))]
    unstated = [
        f"{stage}.{stages[stage]}=auto" for stage in enabled if not any(s.startswith(f"{stage}.") for s in stated)
    ]
    return " ".join([*stated, *unstated])


def text_bank(bank: str, store: str | None, assignments: Sequence[str]) -> TextBankReport:
    """Embeds a text bank where it is not embedded yet."""
    options = _options([*assignments, f"tags.bank={json.dumps(bank)}"])
    with engine():
        from flows.build_text_bank import build_text_bank

        state: Any = build_text_bank(
            bank=options.tags.bank, store=store, embeddings=options.embeddings, return_state=True
        )
        report: TextBankReport = state.result(_sync=True)
        return report


def plan_backfill(
    prefix: str, store: str | None, assignments: Sequence[str], select: Selection, *, retry_quarantined: bool
) -> Plan:
    """What a backfill would do; starts nothing."""
    from flows.backfill.plan import make_plan

    root = open_store(store or settings().store)
    return make_plan(prefix, root, _options(assignments), select, retry_quarantined=retry_quarantined)


def _options(assignments: Sequence[str]) -> AnalyzeOptions:
    """The options; what names a file of this command's folder does so by its whole path, wherever it is read."""
    options = parse_options(assignments)
    for section, option in FILES:
        part = getattr(options, section)
        whole = part.model_copy(update={option: whole_path(getattr(part, option))})
        options = options.model_copy(update={section: whole})
    return options


def committed_result(report: AnalyzeReport, store: str | None) -> Result | None:
    """The result that a report speaks of."""
    if report.result is None or report.media_id is None:
        return None
    found = read_result(open_store(store or settings().store), report.media_id)
    return found[0] if found else None


def _is_pattern(source: str) -> bool:
    """Does it stand for local files? What names a file as it is does not."""
    return "://" not in source and glob.has_magic(source) and not os.path.exists(source)  # noqa: PTH110 - any text


def _matching(source: str) -> list[str]:
    """The files that a pattern stands for; the source itself where it is none, or nothing matches."""
    if not _is_pattern(source):
        return [source]
    found = glob.glob(str(Path(source).expanduser()), recursive=True)  # noqa: PTH207 - it may begin at the root
    return sorted(path for path in found if not Path(path).is_dir()) or [source]


def _analyze(source: str, store: str, options: AnalyzeOptions) -> AnalyzeReport:
    from flows.backfill.batch import analyze_one
    from flows.summary import label

    started = time.monotonic()
    try:
        with progress(label(source)):
            return analyze_one(source, store, options)
    except SetupError as error:
        return failed(source, error, started)


@contextmanager
def engine(*, cluster_at_once: bool = True) -> Iterator[None]:
    """A Prefect API and a Dask cluster for the block; both start side by side with the imports.

    Without `cluster_at_once` the cluster starts with the first task: there may be none.  Raises Interrupted.
    """
    if os.environ.get("REELFLOW_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
        redaction.keep_quiet()
    from flows.runtime.local_cluster import begin_imports, local_scheduler, stop_local_cluster

    cluster_at_once = cluster_at_once and settings().dask_address is None
    with prefect_api(meanwhile=begin_imports if cluster_at_once else None) as own_api:
        if cluster_at_once:
            threading.Thread(target=local_scheduler, name="reelflow-cluster", daemon=True).start()
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            from flows.runtime.dask_client import disconnect, leave

            if own_api and settings().dask_address:
                leave(own_api)
            disconnect()
            stop_local_cluster()
