"""Ports for servers: different, free, and not of those that outgoing connections get."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tasks.core.ports import LOOPBACK, free_port, free_ports


def test_ports_are_different_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listening:
            listening.bind((LOOPBACK, port))


def test_no_outgoing_connection_gets_such_a_port() -> None:
    low, high = (int(bound) for bound in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in free_ports(200) if low <= port <= high]


def test_what_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, free_port()))
        port = taken.getsockname()[1]
        monkeypatch.setattr("tasks.core.ports.random.sample", lambda ports, _count: [port, *ports])
        assert port not in free_ports(1)
