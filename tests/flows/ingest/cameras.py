"""The demonstration camera of flows/cli/demo_camera.py as tests need it: killed, mute, asked when it began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.core.ports import free_port
from tests.source_tree import ROOT

START_S = 60.0


class Camera:
    """The process; `url(name)` is a file of its folder as a stream."""

    def __init__(self, folder: Path, port: int | None = None, mute_after_s: float | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        command = [sys.executable, "-m", "flows.cli.demo_camera", str(folder), str(self.port)]
        command += ["--mute-after", str(mute_after_s)] if mute_after_s is not None else []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._lines: list[dict[str, Any]] = []
        assert self._next()["listening"]

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def began(self) -> float:
        """Unix time at which the first frame of the next connection was sent."""
        return float(self._next()["first"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise AssertionError("the camera has ended")


@contextmanager
def camera(folder: Path, **values: Any) -> Iterator[Camera]:
    running = Camera(folder, **values)
    try:
        yield running
    finally:
        running.kill()
