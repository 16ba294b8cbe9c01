"""Files that a process may still reach, and no network: Landlock, which needs no privilege (Linux 5.13)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE, _DEVICE_CONTROL = 1 << 5, 1 << 8, 1 << 14, 1 << 15
_OF_A_FILE: Final = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_CONTROL
_READING, _RUNNING = _READ | _LIST, _READ | _LIST | _EXECUTE
_WRITING: Final = _READING | _WRITE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""By version: how many rights over files it knows, the lowest bits; 5 is the last that added one."""
_TCP: Final = 0b11
"""bind and connect."""
_SCOPES: Final = 0b11
"""Abstract Unix sockets and signals of processes outside."""
_TCP_SINCE, _SCOPES_SINCE = 4, 6


def version() -> int:
    """Version of Landlock that the kernel offers; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def missing() -> str | None:
    """What of it this kernel lacks; None where it has all that is used."""
    found = version()
    if not found:
        return f"{platform.system()} {platform.release()} has no Landlock, or it is switched off"
    lacks = [
        what
        for since, what in (
            (3, "truncating files"),
            (_TCP_SINCE, "TCP"),
            (5, "devices"),
            (_SCOPES_SINCE, "signals to other processes"),
        )
        if found < since
    ]
    return f"Landlock {found} does not cover {', '.join(lacks)}" if lacks else None


def restrict(reads: Iterable[Path], writes: Iterable[Path], runs: Iterable[Path]) -> None:
    """Leaves this thread, and all that it starts, what lies at or beneath the paths; those that do not exist are none.

    Files in `writes` may be made, changed and removed; programs in `runs` may be started. What is open already stays
    open.  no_new_privs must be set.  Raises OSError.
    """
    known = version()
    rights = (1 << _RIGHTS[min(known, max(_RIGHTS))]) - 1
    attributes = struct.pack(
        "=QQQ",
        rights,
        _TCP if known >= _TCP_SINCE else 0,
        _SCOPES if known >= _SCOPES_SINCE else 0,
    )
    size = 24 if known >= _SCOPES_SINCE else 16 if known >= _TCP_SINCE else 8
    ruleset = _call(_CREATE_RULESET, attributes[:size], ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, allowed in ((reads, _READING), (writes, _WRITING), (runs, _RUNNING)):
            for path in paths:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    _allow(ruleset, path, allowed & rights)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, place)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
