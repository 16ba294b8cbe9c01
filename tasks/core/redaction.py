"""Secrets that this process has used, so that no text of ours or of a library shows them, however it writes them."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

HIDDEN = "***"

MOST_KNOWN = 512
"""Addresses whose secrets are remembered; beyond, those that were used longest ago are forgotten."""

LEAST_PASSWORD, LEAST_VALUE = 4, 8
"""Letters of a password, and of a value in a query that is not called a secret. Shorter ones would be found in any
text; of an address they are left out all the same."""

TALKATIVE = ("boto3", "botocore", "h2", "hpack", "httpcore", "httpx", "s3transfer", "urllib3", "websockets")
"""Libraries that log addresses, headers or tokens at INFO or DEBUG."""

CREDENTIAL_NAMES = re.compile(
    r"x-amz-|x-goog-|awsaccess|signature|sig|token|access_|api_?key|auth|passw|pwd|secret|credential|key", re.IGNORECASE
)
"""What the parameters of a query are called that let someone in."""

_known: OrderedDict[str, tuple[tuple[str, str], ...]] = OrderedDict()
_pattern: re.Pattern[str] | None = None
_replacements: dict[str, str] = {}
_lock = threading.Lock()


def keep_quiet(libraries: Iterable[str] = TALKATIVE) -> None:
    """Lets libraries log nothing below WARNING."""
    for library in libraries:
        logger = logging.getLogger(library)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def learn(address: str, shown: str = HIDDEN) -> None:
    """Remembers the secrets of an address: its password, what its query says, and the whole of it, which is `shown` so.

    From now on `redact` leaves them out, and so does every log record of this process.
    """
    global _pattern
    with _lock:
        if not _known:
            _watch_logs()
        known = _known.pop(address, None)
        if known is None or (address, shown) not in known:
            known = tuple(_forms(address, shown))
            _pattern = None
        _known[address] = known
        if len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
            _pattern = None


def redact(text: str) -> str:
    """The text without the secrets that this process knows: plain, percent-encoded, in JSON, as a Basic header."""
    pattern = _compiled()
    return pattern.sub(lambda found: _replacements.get(found[0].casefold(), HIDDEN), text) if pattern else text


def _compiled() -> re.Pattern[str] | None:
    global _pattern, _replacements
    pattern = _pattern
    if pattern is None and _known:
        with _lock:
            every = {form.casefold(): shown for forms in _known.values() for form, shown in forms}
            _replacements = every
            # The longest first: an address is replaced as a whole, not its password within it.
            longest = sorted(every, key=len, reverse=True)
            _pattern = pattern = re.compile("|".join(map(re.escape, longest)), re.IGNORECASE)
    return pattern


def _forms(address: str, shown: str) -> Iterator[tuple[str, str]]:
    """What is to be left out of a text, and what stands there instead."""
    yield address, shown
    for secret in _secrets(address):
        plain = unquote(secret)
        forms = {secret, plain, quote(plain, safe=""), quote_plus(plain), quote(plain), json.dumps(plain)[1:-1]}
        yield from ((form, HIDDEN) for form in forms)


def _secrets(address: str) -> Iterator[str]:
    """The secret parts of an address, as they stand in it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    user, given, password = parts.netloc.rpartition("@")[0].partition(":")
    secret = password if given else user
    if len(secret) >= LEAST_PASSWORD:
        yield secret
    if given:
        yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    for name, value in parse_qsl(parts.query):
        least = LEAST_PASSWORD if CREDENTIAL_NAMES.search(name) else LEAST_VALUE
        if len(value) >= least:
            yield quote(value, safe="")
    for rest in (parts.query, parts.fragment):
        if len(rest) >= LEAST_VALUE:
            yield rest


def _watch_logs() -> None:
    """Every log record of this process is redacted as it is made, before any handler has it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted(*arguments: object, **named: object) -> logging.LogRecord:
        record = make(*arguments, **named)
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself says what is wrong with the call
        if (safe := redact(said)) != said:
            record.msg, record.args = safe, None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)
