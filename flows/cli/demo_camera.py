"""A camera to try things with: aio-rtsp-toolkit's server as a process of its own, which tells when it sent what.

    python -m flows.cli.demo_camera FOLDER PORT [--mute-after SECONDS]

It serves the files of a folder as RTSP over TCP on loopback; port 0 takes a free one. It prints one JSON line when it
listens and one for the first frame of each connection. As cameras do, it begins with a random RTP timestamp and stamps
frames by when they are shown, so that those of B frames go back and forth.
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

from tasks.core.errors import SetupError

HOST = "127.0.0.1"


@contextmanager
def demo_camera(media: Path) -> Iterator[str]:
    """The address of a camera that shows a file, over and over. Raises SetupError where there can be none."""
    command = [sys.executable, "-m", "flows.cli.demo_camera", str(media.parent), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = (json.loads(line) for line in process.stdout or () if line.startswith("{"))
        port = next((line["port"] for line in said if line.get("listening")), None)
        if port is None:
            raise SetupError("The demonstration camera did not start: `make setup` installs what it needs.")
        yield f"rtsp://{HOST}:{port}/{media.name}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Serves until it is killed."""
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
        server: Any = RtspServer(arguments.folder, host=HOST, port=arguments.port)
        await server.start()
        port = server._server.sockets[0].getsockname()[1]
        print(json.dumps({"listening": True, "port": port}), flush=True)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
