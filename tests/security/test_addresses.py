"""Addresses that no source may lie at: every network of the table, from its first to its last address."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest

from tasks.core.addresses import REFUSED_IPV4, REFUSED_IPV6, is_public
from tasks.core.errors import NetworkError, UnsupportedSource
from tests.core.sources import get

SPECIAL_IPV4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32", "224.0.0.0/4",
]  # fmt: skip
SPECIAL_IPV6 = [
    "::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001:1::1/128", "2001:1::2/128",
    "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28",
    "2001:30::/28", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
    "fec0::/10", "ff00::/8", "::/96", "::ffff:0:0:0/96", "4000::/3", "3ffe::/16",
]  # fmt: skip
"""The registries of IANA, and multicast; besides, what is deprecated, translated or in no registry at all."""

METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "161.26.0.7", "166.8.0.1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
]  # fmt: skip
PUBLIC_IPV4 = [
    "1.1.1.1", "8.8.8.8", "11.0.0.0", "9.255.255.255", "100.128.0.1", "172.32.0.0", "168.63.129.17",
    "223.255.255.255",
]  # fmt: skip
PUBLIC_IPV6 = [
    "2606:4700::1", "2001:200::1", "2a00:1450::1", "2400:cb00::1", "3fff:1000::1", "2620:4f:8001::1",
]  # fmt: skip


@pytest.mark.parametrize("network", [*SPECIAL_IPV4, *SPECIAL_IPV6, *REFUSED_IPV4, *REFUSED_IPV6])
def test_every_network_of_the_table_is_refused(network: str) -> None:
    found = ipaddress.ip_network(network)
    for address in {found[0], found[-1], found[found.num_addresses // 2]}:
        if str(address) not in ("2001::1", "2001::") and address not in ipaddress.ip_network("2001::/32"):
            assert not is_public(str(address)), address


@pytest.mark.parametrize("address", METADATA)
def test_the_services_of_clouds_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [*PUBLIC_IPV4, *PUBLIC_IPV6])
def test_the_neighbours_are_public(address: str) -> None:
    assert is_public(address)


def _wrapped(inner: str) -> dict[str, str]:
    value = int(ipaddress.IPv4Address(inner))
    public = int(ipaddress.IPv4Address("8.8.8.8"))
    numbers = {
        "mapped": 0xFFFF << 32 | value,
        "NAT64": 0x64FF9B << 96 | value,
        "6to4": 0x2002 << 112 | value << 80,
        "Teredo's server": 0x20010000 << 96 | value << 64 | ~public & 0xFFFFFFFF,
        "Teredo's client": 0x20010000 << 96 | public << 64 | ~value & 0xFFFFFFFF,
        "ISATAP": 0x26064700 << 96 | 0x5EFE << 32 | value,
        "ISATAP of a global address": 0x26064700 << 96 | 0x2005EFE << 32 | value,
    }
    return {name: str(ipaddress.IPv6Address(number)) for name, number in numbers.items()}


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "100.64.0.1"])
@pytest.mark.parametrize("how", _wrapped("8.8.8.8"))
def test_an_address_within_an_address_counts(inner: str, how: str) -> None:
    assert not is_public(_wrapped(inner)[how])
    assert is_public(_wrapped("8.8.8.8")[how])


def test_a_zone_changes_nothing() -> None:
    assert not is_public("fe80::1%eth0")
    assert not is_public("::1%lo")


@pytest.mark.parametrize("where", ["168.63.129.16", "[::ffff:168.63.129.16]", "[2002:a83f:8110::1]", "[fec0::1]"])
def test_a_source_there_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSource, match="private or local"):
        get(f"http://{where}/machine", tmp_path / "cache")


def test_one_bad_address_among_good_ones_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("8.8.8.8", "168.63.129.16")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: connected.append(a))
    with pytest.raises(UnsupportedSource, match="private or local"):
        get("http://films.example/a.mp4", tmp_path / "cache")
    assert not connected


def test_a_name_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is checked and used; a second one would lead to the cloud's services."""
    answers = iter(["93.184.215.14", "168.63.129.16"])
    connected: list[Any] = []

    def look_up(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(NetworkError):
        get("http://films.example/a.mp4", tmp_path / "cache")
    assert connected == [("93.184.215.14", 80)]
    assert next(answers) == "168.63.129.16"
