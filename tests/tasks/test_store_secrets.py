"""Who holds a link may read one object for a while; credentials show nowhere."""

from __future__ import annotations

import logging
import urllib.request
from pathlib import Path

import pytest

from tasks.core.errors import StoreUnavailable
from tasks.settings import settings
from tasks.store import Store, open_store
from tests.fault_proxy import FaultProxy

OWNER = "123456789012"


def test_links_are_signed_and_open_without_credentials(
    s3_store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELFLOW_S3__EXPECTED_BUCKET_OWNER", OWNER)
    s3_store.write("report.html", b"page")
    link = s3_store.link("report.html", 60)
    assert "X-Amz-Signature=" in link
    assert "X-Amz-Expires=60&" in link
    assert "X-Amz-SignedHeaders=host&" in link
    with urllib.request.urlopen(link) as answer:  # noqa: S310
        assert answer.read() == b"page"
        assert answer.headers["Content-Type"].startswith("text/html")


def test_secrets_never_show(
    proxy: FaultProxy,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAIDHIDDEN",
        "AWS_SECRET_ACCESS_KEY": "hush/key",
        "AWS_SESSION_TOKEN": "hush/token",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    shown = []
    store = open_store(f"s3://{bucket}/x")
    store.commit("a", b"1", None)
    proxy.answer = lambda request: (403, "SignatureDoesNotMatch", "AWSAccessKeyId AKIAIDHIDDEN hush/key")
    for action in (lambda: store.write("a", b"2"), lambda: store.size("a"), lambda: list(store.list(""))):
        with pytest.raises(StoreUnavailable) as caught:
            action()
        shown += [repr(caught.value), str(caught.value.__cause__), caught.value.detail]
    with pytest.raises(StoreUnavailable) as caught:
        open_store(f"s3://AKIAIDHIDDEN:hush@{bucket}/x")
    shown += [repr(caught.value), repr(store), str(vars(store)), repr(settings()), *caplog.messages]
    shown += [path.read_text() for path in (tmp_path / "cache").rglob("*.json")]
    assert shown
    for secret in ("AKIAIDHIDDEN", "hush"):
        assert not [text for text in shown if secret in text]
