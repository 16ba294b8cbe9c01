"""Twilio's webhook for messages: who signed a request, and what it takes for an answer (TwiML).

The signature is base64 of HMAC-SHA1 over the URL that Twilio calls and the form's fields, each name with its value, in
the order of the names, with the account's auth token as key: https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from xml.sax.saxutils import escape

MOST_LETTERS: Final = 1500
"""Of an answer; Twilio refuses 1600 and more."""

_PORTS: Final = {"https": 443, "http": 80}


def signature(token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """What stands in X-Twilio-Signature. A field that comes several times counts once with each of its values."""
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), text.encode("utf-8", "replace"), hashlib.sha1)).decode()


def is_signed(token: str, url: str, fields: Sequence[tuple[str, str]], given: str) -> bool:
    """Did whoever has the token sign it? Twilio may sign an address with or without its scheme's own port."""
    parts = urlsplit(url)
    addresses = [url]
    if parts.port is None and parts.scheme in _PORTS:
        netloc = f"{parts.netloc}:{_PORTS[parts.scheme]}"
        addresses.append(urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")))
    sent = given.encode("utf-8", "replace")
    return sum(hmac.compare_digest(signature(token, address, fields).encode(), sent) for address in addresses) > 0


def answer(text: str) -> bytes:
    """TwiML that sends this text back, cut where it is too long for a message."""
    short = text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."
    plain = "".join(c for c in short if c.isprintable() or c == "\n")
    message = f"<Message>{escape(plain)}</Message>"
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{message}</Response>'.encode()
