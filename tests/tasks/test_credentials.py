"""A source names the secret that it lies in; only who reads it learns the address, and it is sent nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.runtime.local_server import prefect_api
from tasks import credentials
from tasks.core.errors import CredentialsRefused
from tasks.core.source_names import carries_credentials, display_source
from tests.prefect_home import new_prefect_home, use_prefect_home

WHOLE = "https://me:pass-word@host:8443/in/a.mp4?token=tok-en"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test puts there is gone afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_source_without_a_secret_is_itself() -> None:
    for source in ("/a/b.mp4", "s3://bucket/a#secret=b", "https://host/a.mp4", "file:///a#secret=b"):
        assert credentials.resolve(source) == source
        assert credentials.at_hand(source)


def test_a_secret_is_the_address() -> None:
    os.environ["REELFLOW_SECRET_GATE_CAMERA"] = WHOLE
    assert credentials.resolve("secret://gate-camera") == WHOLE
    assert display_source("secret://gate-camera") == "secret://gate-camera"
    assert credentials.at_hand("secret://gate-camera")
    assert not credentials.at_hand("secret://other")


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("https://host:8443/in/a.mp4", WHOLE),
        ("https://host:8443/in/a.mp4/b%20c.mp4", "https://me:pass-word@host:8443/in/a.mp4/b%20c.mp4?token=tok-en"),
        ("https://host:8443/in/b.mp4", None),
        ("https://host:8443/in/a.mp4x", None),
        ("https://host:8443/in/a.mp4/../../b.mp4", None),
        ("https://host:8443/in/a.mp4/%2e%2e/b.mp4", None),
        ("https://host:8443/in/a.mp4/..\\b.mp4", None),
        ("https://host:443/in/a.mp4", None),
        ("http://host:8443/in/a.mp4", None),
        ("https://host.evil.example:8443/in/a.mp4", None),
    ],
)
def test_a_secret_is_sent_to_its_own_address_and_below(address: str, read: str | None) -> None:
    os.environ["REELFLOW_SECRET_CDN"] = WHOLE
    if read is None:
        with pytest.raises(CredentialsRefused, match="of another address") as caught:
            credentials.resolve(f"{address}#secret=cdn")
        assert "word" not in str(caught.value)
    else:
        assert credentials.resolve(f"{address}#secret=cdn") == read
        assert display_source(f"{address}#secret=cdn") == address


def test_a_camera_is_an_address_too() -> None:
    os.environ["REELFLOW_SECRET_GATE"] = "rtsp://admin:pass-word@10.0.0.9:554/live"
    for source in ("secret://gate", "rtsp://10.0.0.9:554/live#secret=gate"):
        assert credentials.resolve(source) == "rtsp://admin:pass-word@10.0.0.9:554/live"
    assert display_source("rtsp://10.0.0.9:554/live#secret=gate") == "rtsp://10.0.0.9:554/live"


@pytest.mark.parametrize("value", ["hunter2-hush", "/etc/shadow", "file:///etc/shadow", "s3://hush/key", ""])
def test_a_secret_that_is_no_address_is_neither_read_nor_shown(value: str) -> None:
    os.environ["REELFLOW_SECRET_X"] = value
    with pytest.raises(CredentialsRefused) as caught:
        credentials.resolve("secret://x")
    assert not value or value not in str(caught.value)


def test_a_missing_secret_says_where_it_is_looked_for() -> None:
    with pytest.raises(CredentialsRefused, match=r"set REELFLOW_SECRET_NO_SUCH where .* a Secret block"):
        credentials.resolve("secret://no-such")


def test_a_secret_block_is_read_where_the_environment_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    from typing import Any

    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, new_prefect_home(tmp_path_factory))
        with prefect_api():
            block: Any = Secret(value=SecretStr(WHOLE))
            block.save("in-prefect")
            assert credentials.resolve("secret://in-prefect") == WHOLE
            with pytest.raises(CredentialsRefused, match="There is no secret not-there"):
                credentials.resolve("secret://not-there")


@pytest.mark.parametrize(
    "source", [WHOLE, "https://token@host/", "https://host/a?id=7", "http://h/a#b", "rtsp://u:p@h/x", "ftp://u:p@h/x"]
)
def test_a_command_keeps_the_credentials_of_its_arguments(source: str) -> None:
    held = credentials.hold(source)
    assert not carries_credentials(held)
    assert credentials.is_held(held)
    assert held.startswith(f"{display_source(source)}#secret=argument-")
    assert credentials.resolve(held) == source
    assert credentials.hold(source) == held, "the same address is the same source"
    assert credentials.hold(f"{source}2") != held


def test_names_of_files_and_objects_are_left_as_they_are(tmp_path: Path) -> None:
    for source in ("s3://bucket/what?token=1@2#3", str(tmp_path / "a?token=1.mp4"), "a?token=1.mp4", "secret://gate"):
        assert credentials.hold(source) == source
