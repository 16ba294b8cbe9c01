"""A decoder that hangs, and shows that it lives: it writes the time into a file again and again."""

from __future__ import annotations

import time
from pathlib import Path


def main(path: str) -> None:
    """Does not return."""
    while True:
        Path(path).write_text(str(time.monotonic()), encoding="utf-8")
        time.sleep(0.05)
