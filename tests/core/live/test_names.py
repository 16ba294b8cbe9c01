"""Keys sort by camera and time, hold no hour twice, and only exactly they are ours."""

from __future__ import annotations

import pytest

from tasks.core.errors import OptionError, UnsupportedSource
from tasks.core.live.address import Address, check
from tasks.core.live.names import KEY, check_camera, from_metadata, is_bookkeeping, key
from tasks.core.publish.tables import camera_of, recorded_at
from tasks.store.upload import user_metadata
from tests.core.live.test_gaps import window


def test_a_key_is_utc_with_milliseconds_and_sequence() -> None:
    made = key("gate", 1_761_440_399.9996, 42, "mp4")
    assert made == "camera=gate/2025/10/26/20251026T010000.000Z-00000042.mp4"
    assert KEY.fullmatch(made)
    assert camera_of(f"s3://bucket/recordings/{made}") == "gate"
    recorded = recorded_at(made)
    assert recorded is not None
    assert recorded.isoformat() == "2025-10-26T01:00:00+00:00"


def test_a_record_survives_metadata_as_text() -> None:
    record = window(7, 0.25)
    stored = user_metadata(record.model_dump(mode="json"))
    assert stored["keyframe-aligned"] == "true"
    assert all(value.isascii() and name == name.lower() for name, value in stored.items())
    assert from_metadata(record.key, stored) == record
    assert from_metadata(record.key, {"camera": "gate"}) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a=b", "é", "-x", "x" * 65, "a b", "a\n"])
def test_a_camera_whose_name_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="no name for a camera"):
        check_camera(name)


def test_bookkeeping_is_told_from_media() -> None:
    made = key("gate", 0.0, 1, "mp4")
    assert is_bookkeeping(f"recordings/{made}.json")
    assert is_bookkeeping("ledger/gaps/camera=gate/2023/11/14/20231114T221323.000Z-stalled.json")
    for media in (made, f"{made}.mp4", "talk.json", "camera=gate/x.json", "ledger/notes.json", f"{made}.json/x.mp4"):
        assert not is_bookkeeping(media), media


@pytest.mark.parametrize(
    ("url", "host", "shown"),
    [
        ("rtsp://user:pa:ss@10.0.0.1:8554/a/b?c=d", ("10.0.0.1", 8554), "rtsp://10.0.0.1:8554/..."),
        ("rtsp://u:p@w/or#d?@cam.local/live", ("cam.local", 554), "rtsp://cam.local/..."),
        ("rtsps://u:p@[fe80::1]:322/x", ("fe80::1", 322), "rtsps://[fe80::1]:322/..."),
        ("rtmp://host/app/secret-key", ("host", 1935), "rtmp://host/..."),
    ],
)
def test_nothing_secret_of_an_address_is_shown(url: str, host: tuple[str, int], shown: str) -> None:
    address = Address(url)
    assert address.host == host
    assert (str(address), repr(address)) == (shown, f"Address({shown})")


def test_an_address_keeps_all_but_its_host_when_that_is_pinned() -> None:
    assert Address("rtsp://u:p@cam.local:8554/a?b").at("2001:db8::1") == "rtsp://u:p@[2001:db8::1]:8554/a?b"
    assert Address("rtsp://cam.local/cam.local").at("1.2.3.4") == "rtsp://1.2.3.4/cam.local"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]"]
)
def test_private_hosts_are_refused_unless_allowed(host: str) -> None:
    url = f"rtsp://u:p@{host}:8554/x"
    with pytest.raises(UnsupportedSource, match="--private-hosts") as refused:
        check(Address(url), allow_private_hosts=False)
    assert "u:p" not in refused.value.message
    assert check(Address(url), allow_private_hosts=True) == url


@pytest.mark.parametrize(
    "url", ["concat:a|b", "pipe:0", "file:///x", "gopher://h/x", "udp://h:1", "data:x", "rtsp:///x"]
)
def test_only_streams_are_opened_as_streams(url: str) -> None:
    address = Address(url)
    if address.is_file:
        return
    with pytest.raises(UnsupportedSource):
        check(address, allow_private_hosts=True)
