"""Dead letters that no queue takes: kept in the store, each under the digest of its body."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from tasks.core.records import json_bytes
from tasks.core.schema import Record
from tasks.store import Store

MOST_BODY = 2**18
"""Letters of a body that are kept."""


class DeadLetter(Record):
    """dead_letters/{digest}.json: a notification, or a part of one, that says nothing we know."""

    reason: str
    body: str
    origin: str
    """The queue, or `webhook`."""
    received: datetime


def bury(store: Store, body: str, reason: str, origin: str) -> None:
    """Keeps a body with the reason; the same body again replaces it."""
    digest = hashlib.sha256(body.encode(errors="surrogatepass")).hexdigest()[:32]
    letter = DeadLetter(reason=reason, body=body[:MOST_BODY], origin=origin, received=datetime.now(UTC))
    store.write(f"dead_letters/{digest}.json", json_bytes(letter, indent=1))
