"""A camera to test with: aio-rtsp-toolkit's server as a process of its own, which tells when it sent what.

    python -m tests.flows.ingest.cameras FOLDER PORT [--mute-after SECONDS]

It prints one JSON line when it listens and one for the first frame of each connection. As cameras do, it begins with a
random RTP timestamp and stamps frames by when they are shown, so that those of B frames go back and forth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
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
        command = [sys.executable, "-m", "tests.flows.ingest.cameras", str(folder), str(self.port)]
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


def main() -> None:
    import av
    from aio_rtsp_toolkit import server_rtp, server_session, server_streaming
    from aio_rtsp_toolkit.server import RtspServer

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--mute-after", type=float)
    arguments = parser.parse_args()
    session: Any = server_session.RtspServerSession
    send_video, send_rtp = session._send_video_packet, server_rtp.RtspRtpMixin._send_rtp_packet

    async def video(self: Any, state: Any, data: bytes, media_time: float, *others: Any) -> None:
        if not hasattr(state, "times"):
            with av.open(str(self.media_source.file_path)) as source:
                stream = source.streams.video[0]
                times = [float((p.pts or 0) * (stream.time_base or 0)) for p in source.demux(stream) if p.size]
            state.times = iter([time - times[0] for time in times])
            print(json.dumps({"first": time.time()}), flush=True)
        await send_video(self, state, data, next(state.times, media_time), *others)

    async def rtp(self: Any, state: Any, payload: bytes, timestamp: int, marker: int) -> None:
        if not hasattr(state, "base"):
            state.base = int.from_bytes(os.urandom(3), "big") + 1
            state.since = time.monotonic()
        if arguments.mute_after is not None and time.monotonic() - state.since > arguments.mute_after:
            await asyncio.sleep(3600)
        await send_rtp(self, state, payload, timestamp + state.base, marker)

    # a put that takes longer on a busy machine would be done twice: a frame sent twice
    server_streaming.QUEUE_PUT_POLL_INTERVAL = 60.0
    session._send_video_packet = video
    session._send_rtp_packet = rtp

    async def serve() -> None:
        server = RtspServer(arguments.folder, host="127.0.0.1", port=arguments.port)
        await server.start()
        print(json.dumps({"listening": True}), flush=True)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
