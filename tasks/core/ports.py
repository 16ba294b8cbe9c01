"""Free ports of the loopback interface, for servers that are started with a port as an argument."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"

_LOWEST, _HIGHEST = 10_000, 65_535
_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on.

    Between this choice and the server's start a port is free for anybody. So they are not of the range from which the
    system takes those of outgoing connections, of which a busy host opens many in that time, unless that range holds
    every port.
    """
    low, high = (int(bound) for bound in _CONNECTIONS.read_text().split())
    rest = [*range(_LOWEST, low), *range(high + 1, _HIGHEST + 1)]
    found: list[int] = []
    with ExitStack() as held:
        for port in [*random.sample(rest, len(rest)), *[0] * count]:  # 0: whichever the system takes
            if len(found) == count:
                break
            listening = held.enter_context(socket.socket())
            with suppress(OSError):
                listening.bind((LOOPBACK, port))
                found.append(int(listening.getsockname()[1]))
    return found


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]
