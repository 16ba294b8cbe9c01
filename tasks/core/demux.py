"""What libavformat finds in one file, as JSON on stdout: run as a child process by probe.py, which never imports it.

    python -I demux.py PATH MAX_PIXELS MAX_STREAMS FORMATS

Parsers of hostile containers crash and hang; here they take a process of 0.2 s with them, not a worker. libavformat has
the bytes through a Python object: it sees no file name, so that no extension sways it, and this process has no
descriptor left with which a script or a playlist could open what it names.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import statistics
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle

PACKETS_TRIED = 200
"""Packets of one stream that may fail to decode before the stream counts as undecodable."""
LAST_PACKETS = 3
"""A cut packet so near to the end means a file that was cut: parsers hold back one or two."""
VARIABLE_SHARE = 0.01
"""Share of frame distances off the median by more than a tenth that makes a frame rate variable."""
UNSTAMPED = frozenset({"avi", "asf"})
"""Containers without presentation times: libavformat guesses them where frames are reordered."""
PACKED = frozenset({"mpeg4"})
"""Codecs of which several frames may lie in one packet: the guessed times then go back, and are still wrong."""
ORDER_FRAMES = 16
"""Frames that leave the decoder in the order of their times before these are believed; no codec reorders further."""
TOO_LARGE = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")


class Refused(Exception):
    """This file is not described; `verdict` is a key of probe.py's table of errors."""

    def __init__(self, verdict: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict


class Bytes:
    """A file without a name."""

    def __init__(self, path: str) -> None:
        raw = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
        self.read, self.seek, self.tell = raw.read, raw.seek, raw.tell


class Logs:
    """libav's messages so far."""

    def __init__(self, lines: list[tuple[int, str, str]]) -> None:
        self.lines = lines

    def has(self, *parts: str) -> bool:
        return any(part in line for _, _, line in self.lines for part in parts)

    def text(self) -> str:
        return "".join(f"{name}: {line.strip()}\n" for _, name, line in self.lines[:40])

    def largest_claim(self) -> tuple[int, int]:
        sizes = [match for _, _, line in self.lines for match in TOO_LARGE.findall(line)]
        return max(((int(w), int(h)) for w, h in sizes), key=lambda size: size[0] * size[1], default=(0, 0))


def describe(path: str, max_pixels: int, max_streams: int, formats: str, logs: Logs) -> dict[str, Any]:
    """The container and its streams, measured by demuxing all of it and decoding one frame of each stream."""
    source = Bytes(path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # stdin, stdout, stderr: nothing can be opened any more
    options = {"protocol_whitelist": "pipe", "format_whitelist": formats}
    try:
        container: Any = av.open(source, options=options, metadata_errors="replace", buffer_size=2**18)
    except av.error.FFmpegError as error:
        raise _refusal(error, logs) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Refused("corrupt", "it points to before its own beginning") from error
    with container:
        _check_claims(container, max_pixels, max_streams, logs)
        facts = [_stream(stream, max_pixels) for stream in container.streams]
        if container.format.name in UNSTAMPED:
            for fact in facts:
                fact["reordered"], fact["order_open"] = fact["order_open"], False
        start_s = None if container.start_time is None else container.start_time / 1_000_000
        end_s = None if container.duration is None else (start_s or 0.0) + container.duration / 1_000_000
        if logs.has("Estimating duration from bitrate"):
            end_s = None
        cut = _measure(container, facts)
        _check_claims(container, max_pixels, max_streams, logs)
        return {
            "container": container.format.name,
            "declared_end": end_s,
            "cut": cut or logs.has("partial file", "ended prematurely"),
            "doubtful": logs.has("misdetection possible"),
            "streams": [stream | _timing(stream.pop("times")) for stream in facts],
        }


def _refusal(error: Any, logs: Logs) -> Refused:
    name = error.log[1] if error.log else ""
    if logs.has("not on whitelist"):
        return Refused("format", name)
    if isinstance(error, av.error.MemoryError):
        return Refused("memory", "opening it")
    if not name or logs.has("misdetection possible"):
        return Refused("unknown", "")
    return Refused("corrupt", error.log[2].strip() or str(error.strerror))


def _check_claims(container: Any, max_pixels: int, max_streams: int, logs: Logs) -> None:
    if len(container.streams) > max_streams:
        raise Refused("streams", str(len(container.streams)))
    sizes = [(s.codec_context.width, s.codec_context.height) for s in container.streams.video if s.codec_context]
    for width, height in [*sizes, logs.largest_claim()]:
        if width * height > max_pixels:
            raise Refused("pixels", f"{width} x {height}")


def _stream(stream: Any, max_pixels: int) -> dict[str, Any]:
    context = stream.codec_context
    facts: dict[str, Any] = {
        "index": stream.index,
        "kind": stream.type,
        "codec": context.codec.canonical_name if context else "",
        "decodable": context is not None,
        "attached": bool(stream.disposition & av.stream.Disposition.attached_pic),
        "default": bool(stream.disposition & av.stream.Disposition.default),
        "language": stream.language,
        "declared_start": _seconds(stream.start_time, stream.time_base),
        "declared_duration": _seconds(stream.duration, stream.time_base),
        "frames": stream.frames or None,
        "decoded": False,
        "times": [],
        "end": None,
        "reordered": False,
        "order_open": False,
    }
    if context and stream.type == "video":
        context.options = {"max_pixels": str(max_pixels), "threads": "1"}
        facts |= {
            "width": context.width,
            "height": context.height,
            "pixel_format": context.pix_fmt or "",
            "pixel_aspect": str(stream.sample_aspect_ratio or 1),
            "matrix": None,
            "transfer": context.color_trc,
            "primaries": context.color_primaries,
        }
        facts["delay"] = context.reorder_depth
        facts["order_open"] = context.reorder_depth > 0
        facts["rate"] = str(stream.average_rate or stream.guessed_rate or 0)
    elif context and stream.type == "audio":
        facts |= {"sample_rate": context.sample_rate, "channels": context.channels}
    return facts


def _measure(container: Any, facts: list[dict[str, Any]]) -> bool:
    """Fill in times, ends and first frames; True where one of the last packets of some stream is cut.

    There are 70 packets per second of media, so nothing but whole numbers is counted on the way.
    """
    tries = dict.fromkeys(range(len(facts)), 0)
    since_cut = dict.fromkeys(range(len(facts)), LAST_PACKETS)
    for packet in _packets(container):
        if packet.stream_index >= len(facts) or not packet.size:
            continue
        stream = facts[packet.stream_index]
        since_cut[packet.stream_index] = 0 if packet.is_corrupt else since_cut[packet.stream_index] + 1
        time = packet.dts if packet.pts is None or stream["reordered"] else packet.pts
        if time is not None and not packet.is_discard and not packet.is_corrupt:
            end = time + (packet.duration or 0)
            if stream["end"] is None or end > stream["end"]:
                stream["end"] = end
            if stream["kind"] == "video" or not stream["times"]:
                stream["times"].append(time)
        if stream["order_open"] and stream["codec"] not in PACKED and len(stream["times"]) > 1:
            stream["order_open"] = stream["times"][-1] > stream["times"][-2]
        untried = stream["decodable"] and tries[packet.stream_index] < PACKETS_TRIED
        if untried and (not stream["decoded"] or stream["order_open"]):
            tries[packet.stream_index] += 1
            _first_frames(packet, stream)
    for stream, found in zip(container.streams, facts, strict=False):
        if found["decodable"] and not found["decoded"] and found["kind"] in ("video", "audio"):
            _first_frames(None, found, stream.codec_context)
        tick = stream.time_base
        found["times"] = [_seconds(time, tick) for time in found["times"]]
        found["end"] = _seconds(found["end"], tick)
    return min(since_cut.values(), default=LAST_PACKETS) < LAST_PACKETS


def _packets(container: Any) -> Iterator[Any]:
    """All packets up to the end or the first error; streams that appear on the way are left out."""
    for _ in range(64):
        try:
            yield from container.demux()
        except IndexError:
            continue  # a stream appeared: PyAV's demux has no room for it and has to be asked anew
        except (av.error.FFmpegError, OSError):
            return
        return


def _first_frames(packet: Any, stream: dict[str, Any], context: Any = None) -> None:
    if stream["kind"] not in ("video", "audio"):
        return
    try:
        frames = context.decode(None) if context else packet.decode()
    except (av.error.FFmpegError, ValueError):
        return
    for frame in frames:
        if stream["kind"] == "audio":
            stream |= {"decoded": True, "sample_rate": frame.sample_rate, "channels": frame.layout.nb_channels}
            return
        if not stream["decoded"]:
            matrix = frame.side_data.get("DISPLAYMATRIX")
            stream |= {
                "decoded": True,
                "width": frame.width,
                "height": frame.height,
                "matrix": struct.unpack("9i", bytes(matrix)) if matrix else None,
                "transfer": frame.color_trc,
                "primaries": frame.color_primaries,
            }
        if stream["order_open"]:
            _check_order(frame, stream)


def _check_order(frame: Any, stream: dict[str, Any]) -> None:
    """Frames leave a decoder in the order of display: times that go back by less than a second are not those of it."""
    left = stream.setdefault("left", [])
    if frame.pts is None or not frame.time_base:
        return
    if left and 0 < (left[-1] - frame.pts) * frame.time_base < 1:
        stream["reordered"] = True
    left.append(frame.pts)
    stream["order_open"] = not stream["reordered"] and len(left) < ORDER_FRAMES


def _timing(times: list[float]) -> dict[str, Any]:
    """First time, average rate and whether the rate varies, from presentation times in decoding order."""
    if len(times) < 2:
        first = times[0] if times else None
        return {"packets": len(times), "first": first, "mean_rate": None, "usual_rate": None, "variable": False}
    times = sorted(times)
    steps = [after - before for before, after in pairwise(times)]
    median, span = statistics.median(steps), times[-1] - times[0]
    # 2 ms: containers that count in milliseconds round each time; 3 steps: a cut file lacks some of its last frames
    uneven = sum(abs(step - median) > max(0.1 * median, 0.002) for step in steps)
    paused = abs(span - median * len(steps)) > max(0.5, VARIABLE_SHARE * span)
    return {
        "packets": len(times),
        "first": times[0],
        "mean_rate": len(steps) / span if span else None,
        "usual_rate": 1 / median if median else None,
        "variable": uneven > max(3, VARIABLE_SHARE * len(steps)) or paused,
    }


def _seconds(ticks: int | None, tick: Fraction) -> float | None:
    return None if ticks is None else ticks * tick.numerator / tick.denominator


def main(path: str, max_pixels: str, max_streams: str, formats: str) -> None:
    av.logging.set_level(av.logging.WARNING)
    with av.logging.Capture(local=False) as lines:
        logs = Logs(lines)
        try:
            answer = describe(path, int(max_pixels), int(max_streams), formats, logs)
        except Refused as refusal:
            answer = {"refused": refusal.verdict, "message": str(refusal)}
        except MemoryError:
            answer = {"refused": "memory", "message": "demuxing it"}
        answer["log"] = logs.text()
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # no destructor of a damaged container may still crash


if __name__ == "__main__":
    main(*sys.argv[1:])
