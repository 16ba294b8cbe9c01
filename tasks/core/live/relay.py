"""SRT through ffmpeg's own program, because the libraries that come with PyAV do not speak it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from tasks.core.errors import UnsupportedSource
from tasks.core.ffmpeg import binary

END_S = 5.0

PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "HOME", "TZ")
"""All of the environment that processes which open streams see: no keys."""


@contextmanager
def relayed(url: str, shown: str) -> Iterator[BinaryIO]:
    """The stream at an srt:// address as MPEG-TS, packets copied.

    The address goes to the program through its input, as a script that names one file: arguments can be read by all.
    What blocks here is ended by whoever supervises this process.  Raises UnsupportedSource.
    """
    if not url.startswith("srt://") or not url.isprintable():
        raise UnsupportedSource(f"{shown}: it is no srt address")
    command = [binary(), "-hide_banner", "-loglevel", "quiet", "-f", "concat", "-safe", "0"]
    command += ["-protocol_whitelist", "pipe,fd,srt,udp", "-i", "pipe:0"]
    command += ["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-flush_packets", "1", "-f", "mpegts", "pipe:1"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
    )
    if process.stdin is None or process.stdout is None:
        raise UnsupportedSource(f"{shown}: ffmpeg could not be started")
    try:
        quoted = url.replace("'", "'\\''")
        process.stdin.write(f"ffconcat version 1.0\nfile '{quoted}'\n".encode())
        process.stdin.close()
        with process.stdout as output:
            yield output  # type: ignore[misc]
    finally:
        process.kill()
        process.wait(END_S)
