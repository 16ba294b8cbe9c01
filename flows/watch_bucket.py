"""A bucket that is watched: each new object is analysed as soon as its store tells of it, warm, once."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Final

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import BaseModel, Field

from flows import parameters, summary
from flows.backfill.batch import apart
from flows.backfill_prefix import models_for
from flows.task_runner import ClusterTaskRunner
from flows.watch.desk import Desk
from flows.watch.receiver import Inbox, Receiver
from flows.watch.report import WatchReport, emit
from flows.watch.rows import rows
from flows.watch.status import Status, Watchman
from flows.watch.sweep import Sweeper
from flows.watch.web import WebServer
from tasks.core.errors import SetupError
from tasks.core.events.shedding import Shedding, ladder
from tasks.core.events.sqs import SqsQueue
from tasks.core.listing import Selection
from tasks.core.options import AnalyzeOptions
from tasks.settings import settings
from tasks.store import open_store

ALOUD: Final = "reelflow.watch"
"""Logger whose handlers speak to a person."""

TICK_S: Final = 0.1
LAST_POLL_S: Final = 2
"""With `until_empty`, a queue that gives nothing for so long is empty."""

GRACE_S: Final = 60.0
"""How long work that has begun is awaited when the watcher is ended."""

listener: ContextVar[Callable[[WatchReport], None]] = ContextVar("watch_listener")
"""Set by a command line that prints reports as they come."""

ending: ContextVar[threading.Event | None] = ContextVar("watch_ending")
"""Set by a command line: SIGTERM sets the event, then what has begun is finished and nothing else begins.

Elsewhere SIGTERM is Prefect's, which cancels the run so.
"""


class WatchSummary(BaseModel):
    """What a watcher came to."""

    status: Status
    notices: list[str] = []

    def sentence(self) -> str:
        """The outcome for a person."""
        counts = self.status.counts
        parts = {
            "done": counts.get("done", 0),
            "analysed before": counts.get("cached", 0),
            "set aside": counts.get("quarantined", 0),
            "failed": counts.get("failed", 0),
            "found by the sweep": counts.get("taken by sweep", 0),
            "told twice": counts.get("duplicate", 0) + counts.get("older", 0),
            "gone": counts.get("gone", 0),
            "dead letters": counts.get("dead letter", 0),
        }
        return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "nothing came"


def _run_name() -> str:
    return f"watch: {summary.label(flow_run.parameters.get('prefix', ''))}"


@flow(name="watch-bucket", flow_run_name=_run_name, task_runner=ClusterTaskRunner(), validate_parameters=True)
def watch_bucket(
    prefix: parameters.Source,
    queue: str | None = None,
    store: parameters.Store = None,
    select: Selection = Selection(),  # noqa: B008
    in_flight: Annotated[int | None, Field(ge=1, le=64)] = None,
    behind_s: Annotated[float, Field(gt=0, le=86_400)] = 6.0,
    levels: Annotated[int, Field(ge=1, le=6)] = 3,
    sweep_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 300.0,
    until_empty: bool = False,
    listen: str | None = None,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
) -> Any:
    """Analyses each object under a prefix as soon as a notification tells of it; a sweep finds what none told of.

    Objects are analysed in this run's own process, on a cluster that stays warm, each in a flow run of analyze-media.
    It can be ended and started again at any time: nothing is lost and nothing is done twice.

    Args:
        prefix: s3://bucket/prefix; or a folder, which is only swept.
        queue: URL of the SQS queue that the bucket's notifications go to; a dead-letter queue of its redrive policy
            takes what is no notification, else the store does.
        store: Root of the store: a folder, file:///..., s3://bucket/prefix or s3-bucket/NAME. Default: REELFLOW_STORE.
        select: Which objects are meant.
        in_flight: Objects that are analysed at the same time; default: one more than there are Dask workers.
        behind_s: Where new objects would wait longer than so many seconds, they are sampled less.
        levels: How often the sampling rate may be halved for that, and one; 1 never samples less.
        sweep_s: Seconds between two sweeps of the prefix; 0: none.
        until_empty: End when the queue is empty and everything is settled.
        listen: HOST:PORT of /health, and of /events for stores that call (needs REELFLOW_WATCH_TOKEN).
        options: What to do with each object, by stage.
    """
    parameters.check([prefix], store, options)
    say = _Aloud(get_run_logger())
    secret = settings().watch_token
    token = secret.get_secret_value() if secret else None
    if not (queue or sweep_s or (listen and token)):
        raise SetupError(
            "Nothing tells this watcher of objects: give it a queue, seconds between sweeps, or an address to listen "
            "at and a token in REELFLOW_WATCH_TOKEN."
        )
    root = open_store(store or settings().store)
    root.check()
    messages = SqsQueue(queue) if queue else None
    if messages:
        messages.check()
    models, notices = models_for(options)
    for notice in notices:
        say.warning(notice)
    in_flight = in_flight or _default_in_flight()
    context, stop = apart(), ending.get(None)
    told = listener.get(_to_nobody)

    def heard(report: WatchReport) -> None:
        emit(report)
        told(report)

    with ExitStack() as parts:
        parts.enter_context(_ended_by_sigterm(stop))
        desk = Desk(
            prefix=prefix,
            root=root,
            ladder=ladder(options, levels),
            models=models,
            select=select,
            in_flight=in_flight,
            shedding=Shedding(behind_s, levels, in_flight, time.monotonic),
            rows=parts.enter_context(rows(root, options)),
            context=context,
            heard=heard,
            say=say,
        )
        inbox = Inbox(desk)
        receiver = Receiver(messages, inbox, context, say) if messages else None
        sweeper = Sweeper(desk, sweep_s, context, say, receiver.empty if receiver else None) if sweep_s else None
        watchman = Watchman(desk, receiver, sweeper)
        web = WebServer(listen, token, inbox, watchman.health, context) if listen else None
        desk.start()
        parts.callback(desk.stop, GRACE_S)
        for part in (receiver, sweeper, web):
            if part:
                part.start()
                parts.callback(part.stop)
        if web:
            say.info("Listening at %s", web.address)
        _watch(desk, receiver, sweeper, watchman, stop or threading.Event(), until_empty=until_empty)
    watchman.write(ended=True, now=True)
    return _state(WatchSummary(status=watchman.look(ended=True), notices=notices))


@contextmanager
def _ended_by_sigterm(stop: threading.Event | None) -> Iterator[None]:
    """Within a flow run, whose engine has put a handler of its own in place."""
    if stop is None:
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(
    desk: Desk,
    receiver: Receiver | None,
    sweeper: Sweeper | None,
    watchman: Watchman,
    stop: threading.Event,
    *,
    until_empty: bool,
) -> None:
    """Until it is ended or, where that is wanted, nothing is left: in the queue, under the prefix, in work."""
    if receiver and until_empty:
        receiver.wait_s = LAST_POLL_S
    swept: Callable[[], bool] | None = None
    while not stop.wait(TICK_S):
        desk.retry_due()
        watchman.write()
        if not until_empty or (receiver and not receiver.empty.is_set()):
            continue
        if swept is None:
            swept = sweeper.ask() if sweeper else lambda: True
        if swept() and desk.idle:
            return


class _Aloud(logging.LoggerAdapter[Any]):
    """The run's log, and the terminal of whoever listens to ALOUD."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(level, msg, *args, **kwargs)
        logging.getLogger(ALOUD).log(level, msg, *args)


def _to_nobody(_: WatchReport) -> None:
    """Who listens where no command line does."""


def _default_in_flight() -> int:
    """Enough that a worker finds tasks while another object waits for the store; starts the local cluster."""
    from flows.runtime.dask_client import worker_count

    return min(64, worker_count() + 1)


def _state(done: WatchSummary) -> State[dict[str, Any]]:
    kind = Failed if done.status.counts.get("failed") else Completed
    return kind(message=done.sentence(), data=done.model_dump(mode="json"))
