"""What libavformat finds in one file, as JSON on stdout: run in a confined child by probe.py (decoding.py).

libavformat has the bytes through a Python object: it sees no file name, so that no extension sways it, and this process
has no descriptor left with which a script or a playlist could open what it names.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle

from tasks.core.ffmpeg import TOO_LARGE
from tasks.core.options import LimitOptions
from tasks.core.packet_meter import PacketMeter, read_packets, seconds, timing
from tasks.core.promises import promised
from tasks.core.recordings import Recording, RecordingFile, counterpart, recordings

LAST_PACKETS = 3
"""A cut packet so near to the end means a file that was cut: parsers hold back one or two."""
UNSTAMPED = frozenset({"avi", "asf"})
"""Containers without presentation times: libavformat guesses them where frames are reordered."""


class Refused(Exception):
    """This file is not described; `verdict` is a key of probe.py's table of errors."""

    def __init__(self, verdict: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict


class Bytes:
    """A file without a name."""

    def __init__(self, path: str) -> None:
        raw = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
        self.read, self.seek, self.tell, self.fileno = raw.read, raw.seek, raw.tell, raw.fileno


class Logs:
    """libav's messages so far."""

    def __init__(self, lines: list[tuple[int, str, str]]) -> None:
        self.lines = lines

    def has(self, *parts: str) -> bool:
        return any(part in line for _, _, line in self.lines for part in parts)

    def complains(self, demuxer: str) -> bool:
        """Has the demuxer itself met an error?"""
        return any(level <= av.logging.ERROR and name == demuxer for level, name, _ in self.lines)

    def text(self) -> str:
        return "".join(f"{name}: {line.strip()}\n" for _, name, line in self.lines[:40])

    def largest_claim(self) -> tuple[int, int]:
        sizes = [match for _, _, line in self.lines for match in TOO_LARGE.findall(line)]
        return max(((int(w), int(h)) for w, h in sizes), key=lambda size: size[0] * size[1], default=(0, 0))


def describe(path: str, limits: LimitOptions, formats: str, logs: Logs) -> dict[str, Any]:
    """The container and its streams, measured by demuxing all of it and decoding one frame of each stream."""
    found, size, promise = recordings(Path(path)), Path(path).stat().st_size, promised(Path(path))
    is_short = not promise.is_kept(size)
    whole = found == [Recording(0, size)]
    sources: list[Any] = [Bytes(path)] if whole else [RecordingFile(Path(path), recording) for recording in found]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # stdin, stdout, stderr: nothing can be opened any more
    with _open(sources[0], formats, logs) as container:
        _check_claims(container, limits, logs)
        facts = [_stream(stream, limits.max_pixels) for stream in container.streams]
        if container.format.name in UNSTAMPED:
            for fact in facts:
                fact["reordered"], fact["order_open"] = fact["order_open"], False
        start_s = None if container.start_time is None else container.start_time / 1_000_000
        end_s = None if container.duration is None else (start_s or 0.0) + container.duration / 1_000_000
        estimated = logs.has("Estimating duration from bitrate")
        endless = logs.has("Ignoring maximum wav data size")
        measured = _measure(container, facts, sources[0].fileno(), limits.max_packets, Measured())
        _check_claims(container, limits, logs)
        for recording, source in zip(found[1:], sources[1:], strict=True):
            try:
                later = _open(source, formats, logs)
            except Refused:
                continue
            _check_claims(later, limits, logs)
            ahead = [_stream(stream, limits.max_pixels) for stream in later.streams]
            measured = _measure(later, ahead, source.fileno(), limits.max_packets, measured, recording.start)
            for stream, fact in zip(container.streams, facts, strict=True):
                other = counterpart(later.streams, stream)
                if other is not None:
                    _append(fact, ahead[other.index])
        for stream in facts:
            stream |= timing([run.pop("times") for run in stream["runs"]])
            if estimated:
                stream["declared_duration"] = None
        last, broken_off = found[-1], logs.has("partial file", "ended prematurely")
        return {
            "container": container.format.name,
            "declared_end": promise.end_s or (None if estimated else end_s),
            "apart": not whole,
            "tail_lost_s": float(last.lost * container.streams[0].time_base),
            "cut": (measured.cut and not endless) or last.end < size or broken_off or is_short,
            "left": size - measured.place,
            "lossy": logs.complains(container.format.name) or is_short,
            "doubtful": logs.has("misdetection possible"),
            "encrypted": logs.has("DRM protected"),
            "streams": facts,
        }


def _open(source: Any, formats: str, logs: Logs) -> Any:
    options = {"protocol_whitelist": "pipe", "format_whitelist": formats}
    try:
        return av.open(source, options=options, metadata_errors="replace", buffer_size=2**18)
    except av.error.FFmpegError as error:
        raise _refusal(error, logs) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Refused("corrupt", "it points to before its own beginning") from error


def _refusal(error: Any, logs: Logs) -> Refused:
    name = error.log[1] if error.log else ""
    if logs.has("not on whitelist"):
        return Refused("format", name)
    if isinstance(error, av.error.MemoryError):
        return Refused("memory", "opening it")
    if not name or logs.has("misdetection possible"):
        return Refused("unknown", "")
    if logs.has("moov atom not found"):
        return Refused("cut", "moov atom not found")
    return Refused("corrupt", error.log[2].strip() or str(error.strerror))


def _check_claims(container: Any, limits: LimitOptions, logs: Logs) -> None:
    if len(container.streams) > limits.max_streams:
        raise Refused("streams", str(len(container.streams)))
    listed = sum(len(stream.index_entries) for stream in container.streams)
    if listed > limits.max_packets:
        raise Refused("packets", f"{listed} in its index")
    sizes = [(s.codec_context.width, s.codec_context.height) for s in container.streams.video if s.codec_context]
    for width, height in [*sizes, logs.largest_claim()]:
        if width * height > limits.max_pixels:
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
        "declared_start": seconds(stream.start_time, stream.time_base),
        "declared_duration": seconds(stream.duration, stream.time_base),
        "frames": stream.frames or None,
        "encrypted": "enc_key_id" in stream.metadata,
        "decoded": False,
        "packets": 0,
        "runs": [],
        "sound": 0,
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


@dataclass(frozen=True)
class Measured:
    """What reading a recording to its end told of the file."""

    packets: int = 0
    """Read so far, of all streams and recordings."""
    cut: bool = False
    """One of the last packets is cut."""
    place: int = 0
    """Behind the last packet."""


def _measure(
    container: Any, facts: list[dict[str, Any]], file: int, most: int, before: Measured, start: int = 0
) -> Measured:
    """Fill in what the packets, `most` in all, tell of each stream of the recording that begins at byte `start`."""
    meters = [
        PacketMeter(stream, found, container.format, file, start)
        for stream, found in zip(container.streams, facts, strict=True)
    ]
    order = before.packets
    for count, packet in enumerate(read_packets(container), order):
        if count >= most:
            raise Refused("packets", f"more than {most} of them")
        if packet.stream_index < len(meters) and packet.size:
            order += 1
            meters[packet.stream_index].take(packet, order)
    for meter in meters:
        meter.finish()
    place = max((meter.place for meter in meters), default=0)
    return Measured(order, any(meter.since_cut < LAST_PACKETS for meter in meters), max(place, before.place))


def _append(fact: dict[str, Any], more: dict[str, Any]) -> None:
    """The same stream in the next recording goes on behind this one."""
    for run in more["runs"]:
        run["packet"] += fact["packets"]
    if more["runs"] and more["declared_start"] is not None:
        more["runs"][0]["first"] = max(more["runs"][0]["first"], more["declared_start"])
    for name in ("runs", "packets", "sound", "holes", "unread"):
        fact[name] += more[name]
    fact["decoded"] = fact["decoded"] or more["decoded"]
    fact["end"], fact["frames"], fact["declared_duration"] = more["end"] or fact["end"], None, None


def main(path: str, limits: str, formats: str) -> None:
    """`limits` are LimitOptions, as JSON; `formats` names the demuxers that may be used."""
    av.logging.set_level(av.logging.WARNING)
    with av.logging.Capture(local=False) as lines:
        logs = Logs(lines)
        try:
            answer = describe(path, LimitOptions.model_validate_json(limits), formats, logs)
        except Refused as refusal:
            answer = {"refused": refusal.verdict, "message": str(refusal)}
        except MemoryError:
            answer = {"refused": "memory", "message": "demuxing it"}
        answer["log"] = logs.text()
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # no destructor of a damaged container may still crash
