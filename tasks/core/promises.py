"""What a file's first bytes promise of its size and length, where libavformat keeps it to itself.

It doubts a header that does not fit the file, and says nothing of either. A file that is shorter than it says was cut,
or lacks something within.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 2**16
SHORT_SHARE = 0.02
"""Of the promised size, that may be missing: some programs count wrongly by a header or an index."""
ENDLESS = 0x7FFF_0000
"""Sizes of 32 bits from here on are written by programs that stream and know none."""
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_FIELDS = struct.Struct("<Q16sQQQQQQI")
"""Own size, file id, file size, creation, packets, play and send duration (100 ns), preroll (ms), flags (ASF, 3.2)."""
W64_HEADER = bytes.fromhex("726966662e91cf11a5d628db04c10000")


class Promise(NamedTuple):
    bytes: int = 0
    """Of the whole file; 0 where nothing is said."""
    end_s: float | None = None
    """Length of the media."""

    def is_kept(self, size: int) -> bool:
        """Is a file of this size as long as it says?"""
        return size >= (1 - SHORT_SHARE) * self.bytes


def promised(path: Path) -> Promise:
    """Of ASF, RIFF (WAV, AVI) and Wave64; other containers give nothing."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(ASF_HEADER):
        return _asf(head)
    if head[:4] == b"RIFF" and len(head) >= 8:
        stated = int.from_bytes(head[4:8], "little")
        return Promise(stated + 8 if stated < ENDLESS else 0)
    if head.startswith(W64_HEADER) and len(head) >= 24:
        stated = int.from_bytes(head[16:24], "little")
        return Promise(stated if stated < 2**62 else 0)
    return Promise()


def _asf(head: bytes) -> Promise:
    at = head.find(ASF_FILE) + len(ASF_FILE)
    if at < len(ASF_FILE) or at + ASF_FIELDS.size > len(head):
        return Promise()
    _, _, size, _, _, played, _, preroll_ms, flags = ASF_FIELDS.unpack_from(head, at)
    end_s = played / 10_000_000 - preroll_ms / 1000
    is_live = flags & 1
    return Promise() if is_live or end_s <= 0 else Promise(size, end_s)
