"""FFmpeg's shared libraries for torchcodec, which brings none: where the system has none, those of PyAV are lent.

The loader looks for them only where LD_LIBRARY_PATH led when the process began, hence a child process.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

LENT = "REELFLOW_BENCHMARK_LENT_FFMPEG"
_VENDORED = re.compile(r"(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)\.[\d.]+")


def ran_with_libraries(name: str, argv: Sequence[str]) -> bool:
    """Runs the benchmark `name` in a child process that finds the libraries, if it needs one; else False.

    Exits with the child's status where that is not 0.
    """
    wheel = _wheel_folder()
    lent = os.environ.get(LENT) or ctypes.util.find_library("avcodec") or importlib.util.find_spec("torchcodec") is None
    if lent or wheel is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        for target, link in plain_names(path.name for path in wheel.iterdir()).items():
            (Path(folder) / link).symlink_to(wheel / target)
        path = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
        command = [sys.executable, "-m", "benchmarks", name, *argv]
        done = subprocess.run(command, env=os.environ | {"LD_LIBRARY_PATH": path, LENT: "1"}, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return True


def plain_names(files: Iterable[str]) -> dict[str, str]:
    """The name that a program asks for, by the name that the wheel's build gave: libavutil-5809ad29.so.60.26.102."""
    found = {file: _VENDORED.fullmatch(file) for file in files}
    return {file: f"{match[1]}.so.{match[2]}" for file, match in found.items() if match}


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec("av")
    folder = Path(spec.origin).parent.with_name("av.libs") if spec and spec.origin else None
    return folder if folder and folder.is_dir() else None
