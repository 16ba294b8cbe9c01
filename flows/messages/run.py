"""The message server of a command line: reports are flow runs of a Prefect API, its own where none is named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flows.activity import ActivityReport
from flows.explorer.guard import is_loopback
from flows.messages.answers import Answers
from flows.messages.desk import MessageDesk
from flows.messages.web import Keys, MessageServer
from flows.runtime.run import engine
from tasks.core.activity.period import Period
from tasks.core.errors import ReelflowError
from tasks.core.messages.book import Book
from tasks.records.lookup import unexpected
from tasks.settings import settings
from tasks.store import Store


def serve(
    store: Store, book: Book, where: str, public_url: str | None, say: Callable[[str], None], stopping: threading.Event
) -> None:
    """Takes messages until `stopping` is set or Ctrl-C. Raises SetupError, Interrupted."""
    here = settings()
    token, auth = (each.get_secret_value() if each else None for each in (here.messages_token, here.twilio_auth_token))
    keys = Keys(token, auth, frozenset(book.senders))
    with engine(cluster_at_once=False):
        desk = MessageDesk(Answers(store, book, lambda period, cameras: flow_report(store, book, period, cameras)))
        server = MessageServer(where, desk, keys, public_url)
        server.start()
        try:
            ways = [f"{server.url}{path}" for path, key in (("/sms", auth), ("/messages", token)) if key]
            say(f"Messages are taken at {' and '.join(ways)}  (Ctrl+C ends it)")
            if not public_url and not is_loopback(where.rpartition(":")[0].strip("[]")):
                say("Messages and links travel unencrypted; put TLS in front, and give --public-url.")
            stopping.wait()
        finally:
            server.stop()
            desk.stop()


def flow_report(store: Store, book: Book, period: Period, cameras: tuple[str, ...]) -> ActivityReport:
    """A report as a flow run. Raises what became of it."""
    from flows.report_activity import report_activity

    since, until = (datetime.fromtimestamp(at, UTC).isoformat() for at in (period.begin, period.end))
    state: Any = report_activity(
        recordings=book.recordings,
        store=store.address,
        cameras=list(cameras),
        since=since,
        until=until,
        timezone=period.timezone,
        return_state=True,
    )
    found = state.result(raise_on_failure=False, _sync=True)
    if isinstance(found, Exception):
        raise found if isinstance(found, ReelflowError) else unexpected(found)
    return ActivityReport.model_validate(found)
