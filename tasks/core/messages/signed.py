"""Bodies and links that are signed: by whoever may send messages, and by us for who may read a page."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from tasks.core.alerts.message import signature

OLDEST_S: Final = 300
"""A signature is good for so long, before and after its own time: clocks differ."""

_HEADER: Final = re.compile(r"t=(?P<moment>\d{1,12}),v1=[0-9a-f]{64}")


def is_signed(secret: str, body: bytes, header: str, now: float) -> bool:
    """Does `t=UNIX,v1=HEX` fit the body, as alerts' webhooks carry it, and is it not old?"""
    found = _HEADER.fullmatch(header)
    if found is None or abs(now - int(found["moment"])) > OLDEST_S:
        return False
    return hmac.compare_digest(signature(secret, int(found["moment"]), body), header)


def page_key(secret: str, page: str, until: int) -> str:
    """32 hex digits that let whoever has them read a page until then, and nothing else."""
    key = hmac.digest(secret.encode(), b"reelflow: pages of reports", hashlib.sha256)
    return hmac.digest(key, f"{page}.{until}".encode(), hashlib.sha256).hex()[:32]


def may_read(secret: str, page: str, until: int, given: str, now: float) -> bool:
    """Is this the key of a page, and is its time not over?"""
    return hmac.compare_digest(page_key(secret, page, until).encode(), given.encode("utf-8", "replace")) and now < until
