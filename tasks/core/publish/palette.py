"""One colour per object class: stable between media, distinct within one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

COLORS: Final = (
    "#4c8dff", "#f2762e", "#22b07d", "#d65db1", "#e0a800", "#8f6bea",
    "#18a9c9", "#e5484d", "#8fbf26", "#a8683a", "#7d8ea3", "#ff9db5",
)  # fmt: skip
"""Mid-lightness hues, told apart at a glance on white, on black and over video."""


def class_colors(names: Iterable[str]) -> dict[str, str]:
    """`#rrggbb` per class name: chosen by the digest of the name, moved on where another class has it already.

    More than twelve classes in one media share colours.
    """
    chosen: dict[str, str] = {}
    for name in sorted(set(names)):
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(COLORS)
        turns = (COLORS[(first + step) % len(COLORS)] for step in range(len(COLORS)))
        chosen[name] = next((color for color in turns if color not in chosen.values()), COLORS[first])
    return chosen


def rgb(color: str) -> tuple[int, int, int]:
    """`#rrggbb` as three bytes."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
