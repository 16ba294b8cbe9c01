"""Twilio's signature and answer, and signatures of our own."""

from __future__ import annotations

import base64
import hashlib
import hmac
from xml.etree import ElementTree as Xml

from tasks.core.alerts.message import signature as signed
from tasks.core.messages.signed import is_signed as is_ours
from tasks.core.messages.signed import may_read, page_key
from tasks.core.messages.twilio import MOST_LETTERS, answer, is_signed, signature

TOKEN = "12345"
URL = "https://example.com/myapp"
FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+12349013030"),
    ("Digits", "1234"),
    ("From", "+12349013030"),
    ("To", "+18005551212"),
]


def test_the_signature_is_made_as_twilio_says() -> None:
    """URL, then each name with its value in the order of names; SHA-1, base64."""
    text = URL + "CallSidCA1234567890ABCDECaller+12349013030Digits1234From+12349013030To+18005551212"
    made = base64.b64encode(hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()
    assert signature(TOKEN, URL, reversed(FIELDS)) == made
    assert is_signed(TOKEN, URL, FIELDS, made)
    assert is_signed(TOKEN, URL, FIELDS, signature(TOKEN, "https://example.com:443/myapp", FIELDS))
    assert not is_signed(TOKEN, URL, [*FIELDS, ("Body", "x")], made)
    assert not is_signed(TOKEN, f"{URL}?x=1", FIELDS, made)
    assert not is_signed("12346", URL, FIELDS, made)
    assert not is_signed(TOKEN, URL, FIELDS, "")
    assert not is_signed(TOKEN, URL, FIELDS, "\N{SNOWMAN}\udce4")


def test_an_answer_is_text_whatever_it_says() -> None:
    found = Xml.fromstring(answer("a < b & </Message><Message>c\x00\x1b\nd \N{BELL}").decode())
    assert [each.tag for each in found] == ["Message"]
    assert (found[0].text or "").startswith("a < b & </Message><Message>c\nd")
    long = Xml.fromstring(answer("x" * 5000).decode())[0].text or ""
    assert len(long) == MOST_LETTERS


def test_our_own_signature_is_of_body_and_time() -> None:
    body, now = b'{"text": "status"}', 1_800_000_000
    header = signed("secret", now, body)
    assert is_ours("secret", body, header, now + 299)
    assert not is_ours("secret", body, header, now + 301)
    assert not is_ours("secret", body, header, now - 301)
    assert not is_ours("secret", body + b" ", header, now)
    assert not is_ours("other", body, header, now)
    later = header.replace(f"t={now}", f"t={now + 100}")
    assert not is_ours("secret", body, later, now + 100), "the time is signed as well"
    for nonsense in ("", "t=,v1=", f"{header} ", f"t={'9' * 500},v1={'0' * 64}", header.upper()):
        assert not is_ours("secret", body, nonsense, now)


def test_a_key_is_good_for_its_page_and_time() -> None:
    key = page_key("secret", "a" * 32, 1000)
    assert may_read("secret", "a" * 32, 1000, key, 999.0)
    assert not may_read("secret", "a" * 32, 1000, key, 1000.0)
    assert not may_read("secret", "a" * 32, 1001, key, 999.0)
    assert not may_read("secret", "b" * 32, 1000, key, 999.0)
    assert not may_read("other", "a" * 32, 1000, key, 999.0)
    assert not may_read("secret", "a" * 32, 1000, "\udce4", 999.0)
