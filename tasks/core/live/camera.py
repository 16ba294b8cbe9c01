"""The process of one camera, for one connection: `python -m tasks.core.live.camera`.

Its first line of input is what to do, the address with its password among it, so that neither stands in the list of
processes; when its input ends it ends, because whoever supervised it is gone. On its output is one JSON object a line.
Whatever blocks in it for ever is no matter: it is killed, and what it had received is on disk.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from tasks.core.errors import NetworkError, ReelflowError
from tasks.core.live.address import Address, Silent, explained, is_final, open_stream
from tasks.core.live.capture import BEAT_S, Capture, Send, Task, recover, usable
from tasks.core.live.clock import Source
from tasks.core.live.hls import Playlist, open_segment
from tasks.core.live.streams import Sample, layout_of
from tasks.core.live.transcode import Transcoder

OK, FAILED, FINAL = 0, 1, 2
"""Exit statuses: the end of the stream was reached, or asked for; it is to be tried again; that is of no use."""
READ_ERRORS = 64
"""Damaged packets in a row, after which the connection is given up."""
_PRFT = struct.Struct("<q")
"""libav's AVProducerReferenceTime begins with the sender's wall clock, Unix time in microseconds."""


class Stopped(Exception):
    """The supervisor asked for the end."""


def run(task: Task, address: Address, send: Send, stopping: threading.Event) -> tuple[int, bool]:
    """Recovers what an earlier process left, then captures until the stream ends: exit status, and is that the end?"""
    task = recover(task, send)
    if not address.url:
        return OK, True
    receiver = Receiver(task, send, stopping)
    try:
        try:
            (_play if address.is_playlist else _stream)(receiver, address)
        finally:
            receiver.end()
    except Stopped:
        return OK, receiver.finite
    except (ReelflowError, av.FFmpegError, OSError) as error:
        found = explained(error, address)
        silent = isinstance(found, Silent)
        send("failed", {"at": time.time(), "code": found.code, "text": found.message, "silent": silent})
        return (FINAL if is_final(found, address) else FAILED), False
    return OK, receiver.finite


class Receiver:
    """Takes the packets of one connection: paces a file, says that frames come, and captures them."""

    def __init__(self, task: Task, send: Send, stopping: threading.Event) -> None:
        self.task, self.send, self.stopping = task, send, stopping
        self.capture: Capture | None = None
        self.finite = False
        """The stream has an end, and that is the end of the work."""
        self._transcoder: Transcoder | None = None
        self._started = self._beat = time.monotonic()
        self._first_s: float | None = None
        self._begun = False

    def begin(self, streams: list[Any], sender: Source, *, finite: bool) -> Capture:
        """What comes is of these streams."""
        layout = layout_of(streams)
        self.finite = finite
        self.send("opened", {"at": time.time(), "streams": [stream.codec for stream in layout.streams]})
        if self.task.transcode and layout.video is not None:
            self._transcoder = Transcoder(streams, self.task.window_s, self.task.bitrate, self.task.refresh_rate)
        self.capture = Capture(self.task, layout, self.send, sender=sender)
        self._started = time.monotonic()
        return self.capture

    def take(self, sample: Sample, base: Fraction, arrived: float | None = None) -> None:
        """One packet.  Raises Stopped when it is time to end."""
        capture, mono = self.capture, time.monotonic()
        if capture is None:
            return
        if not self._begun:
            self._begun = True
            self.send("first", {"at": time.time()})
        media_s = float(sample.pts * base) if sample.pts is not None else None
        if self._first_s is None:
            self._first_s = media_s
        past = (media_s or 0.0) - (self._first_s or 0.0)
        if self.task.pace or (self.finite and not self.task.keep_time):
            self._wait(self._started + past)
            mono = time.monotonic()
        elapsed = past if self.task.keep_time else mono - self._started
        if self.stopping.is_set() or (self.task.duration_s is not None and elapsed >= self.task.duration_s):
            raise Stopped
        if self._transcoder is None:
            capture.feed(sample, arrived)
        else:
            capture.see(sample, arrived)
            for made in self._transcoder.feed(sample):
                capture.keep(made)
        if mono - self._beat >= BEAT_S:
            self._beat = mono
            self.send("beat", {"at": time.time(), "frames": capture.frames})

    def end(self) -> None:
        """Nothing more comes: what is open becomes a window."""
        if self.capture is None:
            return
        if self._transcoder is not None:
            for made in self._transcoder.flush():
                self.capture.keep(made)
        self.capture.finish()

    def _wait(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            if self.stopping.wait(min(left, BEAT_S)):
                raise Stopped


def _stream(receiver: Receiver, address: Address) -> None:
    """RTSP, RTMP, a file, or a file by HTTP."""
    task, send = receiver.task, receiver.send
    opening = open_stream(
        address,
        transport=task.transport,
        allow_private_hosts=task.private_hosts,
        open_s=task.open_s,
        read_s=task.read_s,
    )
    with opening as (container, finite):
        streams = usable(container, send)
        capture = receiver.begin(streams, "rtcp-sr", finite=finite)
        numbers = {stream.index: number for number, stream in enumerate(streams)}
        is_rtsp = address.scheme.startswith("rtsp")
        came_before: float | None = None
        for packet in _packets(container, streams, address):
            number = numbers.get(packet.stream_index)
            if number is None or not packet.size:
                continue
            sample = Sample(number, packet.pts, packet.duration or 0, packet.is_keyframe, bytes(packet))
            if number == 0 and packet.has_sidedata("new_extradata"):
                capture.change(bytes(packet.get_sidedata("new_extradata")), sample)
            arrived = None
            if is_rtsp:
                sample.captured = _captured(packet)
                if number == 0:
                    # libav's parser gives a frame out when the next one begins: this one had begun by then
                    arrived, came_before = came_before, time.monotonic()
            receiver.take(sample, packet.time_base, arrived)


def _play(receiver: Receiver, address: Address) -> None:
    """HLS, segment by segment."""
    task = receiver.task
    playlist = Playlist(
        address, allow_private_hosts=task.private_hosts, silent_s=task.read_s, stopping=receiver.stopping
    )
    for segment in playlist.segments():
        with open_segment(segment) as container:
            streams = usable(container, receiver.send)
            if receiver.capture is None:
                receiver.begin(streams, "hls-pdt", finite=False)
            elif segment.breaks:
                receiver.capture.break_off()
            if receiver.capture is not None:
                receiver.capture.follow(layout_of(streams))
            numbers = {stream.index: number for number, stream in enumerate(streams)}
            first_s: float | None = None
            for packet in _packets(container, streams, address):
                number = numbers.get(packet.stream_index)
                if number is None or not packet.size:
                    continue
                sample = Sample(number, packet.pts, packet.duration or 0, packet.is_keyframe, bytes(packet))
                if number == 0 and packet.pts is not None and segment.date is not None:
                    media_s = float(packet.pts * packet.time_base)
                    first_s = media_s if first_s is None else first_s
                    sample.captured = segment.date + media_s - first_s
                receiver.take(sample, packet.time_base)
    receiver.finite = playlist.ended


def _captured(packet: Any) -> float | None:
    """When the sender says that this was captured, Unix time."""
    if not packet.has_sidedata("prft"):
        return None
    return float(_PRFT.unpack_from(bytes(packet.get_sidedata("prft")))[0]) / 1e6


def _packets(container: Any, streams: list[Any], address: Address) -> Iterator[Any]:
    """Packets until the stream ends. Damaged ones are passed over; for ever damaged is an error."""
    errors = 0
    while True:
        try:
            for packet in container.demux(streams):
                errors = 0
                yield packet
            return
        except (IndexError, av.error.InvalidDataError):
            errors += 1
            if errors > READ_ERRORS:
                raise NetworkError(f"{address}: nothing but damaged packets comes") from None
        except av.error.EOFError:
            return


def main() -> int:
    av.logging.set_level(None)  # what libav would say holds the address
    order = json.loads(sys.stdin.readline())
    task, address = Task.model_validate(order["task"]), Address(order["url"])
    stopping, lock = threading.Event(), threading.Lock()
    output = sys.stdout

    def send(kind: str, values: dict[str, Any]) -> None:
        with lock:
            try:
                output.write(json.dumps({"kind": kind} | values) + "\n")
                output.flush()
            except BrokenPipeError:
                os._exit(FAILED)

    def listen() -> None:
        if sys.stdin.readline().strip() == "stop":
            stopping.set()
            sys.stdin.readline()
        os._exit(FAILED)  # the supervisor is gone

    threading.Thread(target=listen, name="listen", daemon=True).start()
    status, finite = run(task, address, send, stopping)
    send("end", {"status": status, "at": time.time(), "finite": finite})
    output.flush()
    os._exit(status)  # no destructor of a broken stream may block


if __name__ == "__main__":
    main()
