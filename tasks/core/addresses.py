"""Which IP addresses are on the public internet: a table of our own, so that it changes with no release of Python.

The tables are IANA's special-purpose registries of IPv4 and IPv6 (RFC 6890), whole: what is reachable from everywhere
in them (anycast of AS112, ORCHID and so on) serves no media. Besides, what a cloud serves to its own machines alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

REFUSED_IPV4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT; 100.100.100.200 is Alibaba Cloud's metadata",
    "127.0.0.0/8": "loopback",
    "161.26.0.0/16": "services of IBM Cloud for its own machines",
    "166.8.0.0/14": "services of IBM Cloud for its own machines",
    "168.63.129.16/32": "Azure's services for its own machines",
    "169.254.0.0/16": "link-local; 169.254.169.254 is the metadata of most clouds",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "IETF protocols; 192.0.0.192 is Oracle Cloud's metadata",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "multicast tunnels",
    "192.88.99.0/24": "relays of 6to4",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarks of networks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and broadcast",
}

GLOBAL_IPV6 = "2000::/3"
"""Of IPv6 only global unicast is public: private (fc00::/7, with the metadata of AWS and Google), link-local,
site-local, multicast, documentation, dummy and reserved networks, and all that carries an IPv4 address in other ways
than below, lie outside."""

REFUSED_IPV6 = {
    "2001::/23": "IETF protocols; Teredo is judged by the addresses in it",
    "2001:db8::/32": "documentation",
    "2620:4f:8000::/48": "AS112",
    "3ffe::/16": "returned",
    "3fff::/20": "documentation",
}

MAPPED, NAT64, TEREDO, SIXTOFOUR = "::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16"
"""Networks whose addresses lead to IPv4 addresses that stand in them."""

ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""Third quarter of an IPv6 address whose last one is an IPv4 address, in any network (RFC 5214)."""

_REFUSED = [ipaddress.ip_network(network) for network in (*REFUSED_IPV4, *REFUSED_IPV6)]
_GLOBAL, _MAPPED, _NAT64, _TEREDO, _SIXTOFOUR = map(
    ipaddress.IPv6Network, (GLOBAL_IPV6, MAPPED, NAT64, TEREDO, SIXTOFOUR)
)


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet; with an IPv4 address in it, whether that one is as well.

    Raises ValueError for what is no address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return _is_allowed(ip)
    if ip in _MAPPED or ip in _NAT64:
        return _is_allowed(_low(ip))
    if ip not in _GLOBAL or not all(map(_is_allowed, _embedded(ip))):
        return False
    return ip in _TEREDO or _is_allowed(ip)


def _is_allowed(ip: IPv4Address | IPv6Address) -> bool:
    return not any(ip in network for network in _REFUSED if network.version == ip.version)


def _embedded(ip: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to this address may be sent on to."""
    value = int(ip)
    if ip in _SIXTOFOUR:
        yield IPv4Address(value >> 80 & 0xFFFFFFFF)
    if ip in _TEREDO:
        yield IPv4Address(value >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~value & 0xFFFFFFFF)
    if value >> 32 & 0xFFFFFFFF in ISATAP:
        yield _low(ip)


def _low(ip: IPv6Address) -> IPv4Address:
    return IPv4Address(int(ip) & 0xFFFFFFFF)
