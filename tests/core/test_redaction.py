"""A secret that was used is in no text afterwards, however a library writes it; nor in any log record."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

from tasks.core import redaction
from tasks.core.source_names import hide_secrets

PASSWORD = 'Pä ss/wo"rd@%1'
ADDRESS = f"rtsp://admin:{quote(PASSWORD, safe='')}@camera:554/live?channel=1&auth=tok-en/1"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has read no source yet."""
    monkeypatch.setattr(redaction, "_known", type(redaction._known)())
    monkeypatch.setattr(redaction, "_pattern", None)
    monkeypatch.setattr(redaction, "_replacements", {})
    made = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(made)


@pytest.mark.parametrize(
    "written",
    [
        PASSWORD,
        quote(PASSWORD),
        quote(PASSWORD, safe=""),
        quote(PASSWORD, safe="").lower(),
        quote_plus(PASSWORD),
        json.dumps(PASSWORD),
        base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
        "tok-en/1",
        "tok-en%2F1",
        "channel=1&auth=tok-en/1",
    ],
)
def test_a_secret_is_left_out_however_it_is_written(written: str) -> None:
    redaction.learn(ADDRESS)
    assert redaction.redact(f"Error: {written} (401)").startswith("Error: ")
    shown = redaction.redact(f"Error: {written} (401)")
    assert written.strip('"') not in shown
    assert "***" in shown


def test_an_address_is_shown_by_the_name_of_its_secret() -> None:
    """As in ffmpeg's own words, which name what could not be opened."""
    redaction.learn(ADDRESS, "secret://gate")
    assert hide_secrets(f"[Errno 5] Input/output error: '{ADDRESS}'; try again.") == (
        "[Errno 5] Input/output error: 'secret://gate'; try again."
    )


def test_what_is_short_or_unknown_stays() -> None:
    redaction.learn("https://me:pw@host/a.mp4?id=17&v=1080p")
    text = "17 bytes of 1080p at https://host/b.mp4, pw"
    assert redaction.redact(text) == text


def test_the_number_of_known_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "MOST_KNOWN", 3)
    for number in range(5):
        redaction.learn(f"https://me:password-{number}@host/")
    redaction.learn("https://me:password-3@host/")
    shown = redaction.redact(" ".join(f"password-{number}" for number in range(5)))
    assert shown == "password-0 password-1 *** *** ***"


def test_log_records_are_redacted_with_their_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.library")
    redaction.learn(ADDRESS, "secret://gate")
    try:
        raise RuntimeError(f"no answer from {ADDRESS}")
    except RuntimeError:
        logger.exception("GET %s: %d", ADDRESS, 401)
    [record] = caplog.records
    assert record.getMessage() == "GET secret://gate: 401"
    text = logging.Formatter().format(record)
    assert "RuntimeError: no answer from secret://gate" in text
    assert "camera" not in text
    logging.getLogRecordFactory()("a", 30, "f", 1, "%d", ("no number",), None)  # logging itself says what is wrong


def test_libraries_that_log_credentials_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for library in redaction.TALKATIVE:
        logging.getLogger(library).setLevel(logging.DEBUG)
    redaction.keep_quiet()
    for library in ("websockets.client", "hpack.hpack", "httpcore.connection", "botocore.auth", "urllib3.util"):
        logging.getLogger(library).info("Authorization: Basic aHVzaA==")
    assert not caplog.records
