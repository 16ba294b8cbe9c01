"""What the packets of one stream tell without decoding: runs of its clock, gaps, ruins, and one decoded frame.

A run is a stretch of a stream over which its clock neither starts again nor jumps. There are 70 packets per second of
media, so that nothing but whole numbers is counted on the way.
"""

from __future__ import annotations

import os
import statistics
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
from av.format import Flags

PACKETS_TRIED = 200
"""Packets of one stream that may fail to decode before the stream counts as undecodable."""
READ_ERRORS = 64
"""Errors after which a file is read no further; demuxers go on behind a damaged place."""
BACK_S = 0.5
"""A stream whose decoding times step back by more has a clock that started again."""
FORWARD_S = 10.0
"""A step forward by more is a jump of the clock where clocks jump; ffmpeg's -dts_delta_threshold."""
GAP_S = 0.1
"""Sound that lacks more than this between two packets has a gap."""
MOST_NOTED = 500
"""Gaps and runs of one stream that are told apart; a file with more is a heap of ruins."""
JUMPING = frozenset({"flv", "live_flv"})
"""Clocks that jump besides those of the formats that libavformat marks so (AVFMT_TS_DISCONT)."""
RAW = frozenset({"aac", "mp3", "ac3", "eac3"})
"""Containers of nothing but sound packets: their parsers pass over zeros without a word."""
BLOCK = 4096
"""Bytes of a disk block: of so many zeros a stretch of RAW is told, no tag pads so much."""
LEAST_RUIN = 16
"""Bytes of a packet of zeros that no encoder writes; silence may take a few."""
MOST_PADDING = 4096
"""Bytes behind the sound of a WAV file that mean nothing."""
CHUNK_HEAD = 8
"""Bytes of a RIFF chunk's name and size."""


class DataChunk(NamedTuple):
    """The head of the chunk that holds all of a file's sound."""

    before: int
    """Bytes from the chunk's name to the sound."""
    name: bytes
    size: str
    size_at: int
    counted: int
    """Bytes of the size that are no sound."""
    endless: int
    """Sizes from here on are written by programs that stream and know none."""


DATA = {
    "wav": DataChunk(8, b"data", "<I", 4, 0, 0x7FFF_0000),
    "w64": DataChunk(24, b"data\xf3\xac\xd3\x11", "<Q", 16, 24, 2**62),
    "caf": DataChunk(16, b"data", ">Q", 4, 4, 2**62),
}
SOUND_ONLY = frozenset({"wav", "w64", "caf", "aiff", "au"})
"""Containers in which sound lies in one piece."""
EDGE = 8
"""Bytes of sound at either end of zeros; some samples are 0 by themselves."""
ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""ISO/IEC 14496-3, table 1.18; each packet says its own, and libavformat believes the first."""
PACKED = frozenset({"mpeg4"})
"""Codecs of which several frames may lie in one packet: the guessed times then go back, and are still wrong."""
ORDER_FRAMES = 16
"""Frames that leave the decoder in the order of their times before these are believed; no codec reorders further."""
VARIABLE_SHARE = 0.01
"""Share of frame distances off the median by more than a tenth that makes a frame rate variable."""


def read_packets(container: Any, *streams: Any) -> Iterator[Any]:
    """Packets up to the end of the file, or to where it can no longer be read; streams that appear are left out."""
    for _ in range(READ_ERRORS):
        try:
            yield from container.demux(*streams)
        except IndexError:
            continue  # a stream appeared: PyAV's demux has no room for it and has to be asked anew
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError):
            continue
        return


class PacketMeter:
    """Counts the packets of one stream into its facts; the recording begins at byte `start` of the file."""

    def __init__(self, stream: Any, facts: dict[str, Any], container: Any, file: int, start: int = 0) -> None:
        self.stream, self.facts, self._file, self._start = stream, facts, file, start
        jumps = bool(container.flags & Flags.ts_discont.value) or container.name in JUMPING
        self.since_cut = sys.maxsize
        """Packets since one that is cut."""
        self._raw = container.name in RAW
        self._container = container.name
        self._adts = container.name == "aac"
        self._pcm = facts["codec"].startswith("pcm_")
        self._is_video = facts["kind"] == "video"
        self._is_sound = facts["kind"] == "audio"
        self._tick = stream.time_base or Fraction(1, 1_000_000)
        self._back, self._gap = -int(BACK_S / self._tick), int(GAP_S / self._tick)
        self._forward = int(FORWARD_S / self._tick) if jumps else sys.maxsize
        self._run: dict[str, Any] = {"end": None}
        self._last: int | None = None
        self._tries = self._bytes = self.place = 0
        """`place`: behind the last packet in the file."""
        self._by_rate: dict[int, int] = {}
        self._begin: int | None = None
        self._decoded: list[int] = []
        """Times of the frames that left the decoder, as long as it is open whether these are those of display."""

    def take(self, packet: Any, order: int) -> None:
        facts, ordinal = self.facts, self.facts["packets"]
        facts["packets"] = ordinal + 1
        corrupt = packet.is_corrupt
        self.since_cut = 0 if corrupt else self.since_cut + 1
        pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
        time = dts if pts is None or facts["reordered"] else pts
        if time is not None and not packet.is_discard and (not corrupt or self._pcm):
            clock = dts if self._is_video else time  # presentation times of video go back and forth
            last = self._last
            steps = last is not None and clock is not None and not self._back <= clock - last <= self._forward
            if not facts["runs"] or (steps and len(facts["runs"]) < MOST_NOTED):
                self._run = {"packet": ordinal, "order": order, "first": time, "end": None, "times": []}
                self._run |= {"gaps": [], "ruined": []}
                facts["runs"].append(self._run)
                facts["order_open"] = facts["order_open"] and not steps
            self._last = last if clock is None else clock
            run, end = self._run, time + duration
            run["last"] = order
            before = run["end"]
            if before is None or end > before:
                run["end"] = end
                if self._is_sound and before is not None and time - before > self._gap:
                    self._note("gaps", before, time)
            if self._is_video:
                run["times"].append(time)
                if facts["order_open"] and facts["codec"] not in PACKED and len(run["times"]) > 1:
                    facts["order_open"] = run["times"][-1] > run["times"][-2]
            elif self._is_sound:
                facts["sound"] += duration
        elif time is None and self._is_sound:
            self._count_unstamped(packet)
        if ordinal == 0:
            facts["encrypted"] = facts["encrypted"] or packet.has_sidedata("encryption_info")
        self._bytes += packet.size
        if not self._pcm and not facts["attached"]:
            self._look_inside(packet, time, duration)
        if packet.pos is not None:
            place = self._start + packet.pos
            self._begin = place if self._begin is None else self._begin
            self.place = place + packet.size
        untried = facts["decodable"] and self._tries < PACKETS_TRIED
        if untried and (not facts["decoded"] or facts["order_open"]):
            self._tries += 1
            self._first_frames(packet)

    def _count_unstamped(self, packet: Any) -> None:
        """Sound without a time follows on: between two joined FLAC files lies a packet of blocks and a header."""
        if not self.facts["decodable"] or self._run["end"] is None or self._tries >= PACKETS_TRIED:
            return
        self._tries += 1
        try:
            length_s = sum(Fraction(frame.samples, frame.sample_rate) for frame in packet.decode())
        except (av.error.FFmpegError, ValueError):
            return
        self._run["end"] += round(length_s / self._tick)
        self.facts["sound"] += round(length_s / self._tick)

    def _look_inside(self, packet: Any, time: int | None, duration: int) -> None:
        """Packets of zeros are what a damaged disk or a broken transfer leaves."""
        view = memoryview(packet)
        if not view[0] and len(view) >= LEAST_RUIN and not any(view):
            if time is not None:
                self._note("ruined", time, time + duration)
        elif self._adts and len(view) > 7:
            rate = view[2] >> 2 & 15
            self._by_rate[rate] = self._by_rate.get(rate, 0) + 1 + (view[6] & 3)

    def _note(self, what: str, start: int, end: int) -> None:
        noted = self._run.get(what, [])
        if noted and 0 <= start - noted[-1][1] <= self._gap:
            noted[-1][1] = end
        elif len(noted) < MOST_NOTED:
            noted.append([start, end])

    def finish(self) -> None:
        """Try what the decoder still holds, and turn ticks into seconds."""
        facts, tick = self.facts, self._tick
        if facts["decodable"] and not facts["decoded"] and facts["kind"] in ("video", "audio"):
            self._first_frames(None)
        for run in facts["runs"]:
            run["times"] = [float(seconds(time, tick) or 0.0) for time in sorted(run["times"])]
            run["first"] = run["times"][0] if run["times"] else seconds(run["first"], tick)
            run["end"] = seconds(run["end"], tick)
            for what in ("gaps", "ruined"):
                run[what] = [[seconds(time, tick) for time in pair] for pair in run[what]]
        facts["end"] = max((run["end"] for run in facts["runs"]), default=None)
        facts["sound"] = seconds(facts["sound"], tick)
        if facts["runs"] and facts["declared_start"] is not None:  # what is decoded and thrown away before the start
            facts["sound"] -= max(0.0, facts["declared_start"] - facts["runs"][0]["first"])
        if len(self._by_rate) > 1 and facts["runs"] and max(self._by_rate) < len(ADTS_RATES):
            facts["sound"] = sum(1024 * blocks / ADTS_RATES[rate] for rate, blocks in self._by_rate.items())
            facts["end"] = facts["runs"][-1]["end"] = facts["runs"][0]["first"] + facts["sound"]
            facts["declared_duration"] = None
        zeroed = list(self._zeroed()) if self._raw else []
        held = os.fstat(self._file).st_size - (self._begin or 0) - sum(length for _, length in zeroed)
        per_byte = facts["sound"] / max(1, held if zeroed else self._bytes)
        facts["holes"] = [[at * per_byte, length * per_byte] for at, length in zeroed]
        facts["unread"] = self._unread() * per_byte if self._container in DATA else 0.0
        if self._pcm and self._container in SOUND_ONLY and len(facts["runs"]) == 1:
            places = ((byte - (self._begin or 0)) * per_byte for pair in self._blank_blocks() for byte in pair)
            facts["runs"][0]["ruined"] += [[start, next(places)] for start in places]

    def _unread(self) -> int:
        """Bytes of sound that the header before them states and that are not there, or the other way round."""
        chunk, start = DATA[self._container], self._begin or 0
        head = os.pread(self._file, chunk.before, start - chunk.before) if start >= chunk.before else b""
        if not head.startswith(chunk.name):
            return 0
        stated = int(struct.unpack_from(chunk.size, head, chunk.size_at)[0]) - chunk.counted
        if not 0 < stated < chunk.endless:
            return 0
        left = os.fstat(self._file).st_size - start - stated
        after = os.pread(self._file, CHUNK_HEAD, start + stated + stated % 2)
        follows = after[:4].replace(b" ", b"_").replace(b"_", b"x").isalnum()
        return -left if left < 0 else 0 if left < MOST_PADDING or follows or self._container != "wav" else left

    def _blank_blocks(self) -> Iterator[tuple[int, int]]:
        """(first byte, end) of stretches of zeros that begin and end with a disk block, within sound that does not."""
        at = -(-(self._begin or 0) // BLOCK) * BLOCK
        start, before = None, os.pread(self._file, EDGE, at - EDGE)
        while len(block := os.pread(self._file, BLOCK, at)) == BLOCK and at < self.place:
            if start is None and not any(block):
                start = at if any(before) else self.place
            elif start is not None and any(block):
                if any(block[:EDGE]) and start < at:
                    yield start, at
                start = None
            at, before = at + BLOCK, block[-EDGE:]

    def _first_frames(self, packet: Any) -> None:
        """What the frames of a packet say, or those that the decoder still holds."""
        facts = self.facts
        if facts["kind"] not in ("video", "audio") or facts["encrypted"]:  # noise may decode as well
            return
        try:
            frames = self.stream.codec_context.decode(None) if packet is None else packet.decode()
        except (av.error.FFmpegError, ValueError):
            return
        for frame in frames:
            if facts["kind"] == "audio":
                facts |= {"decoded": True, "sample_rate": frame.sample_rate, "channels": frame.layout.nb_channels}
                return
            if not facts["decoded"]:
                facts |= {"decoded": True} | _picture(frame)
            if facts["order_open"]:
                self._check_order(frame)

    def _check_order(self, frame: Any) -> None:
        """Frames leave a decoder in the order of display: times that go back by less than a second are not those."""
        if frame.pts is None or not frame.time_base:
            return
        facts, left = self.facts, self._decoded
        if left and 0 < (left[-1] - frame.pts) * frame.time_base < 1:
            facts["reordered"] = True
        left.append(frame.pts)
        facts["order_open"] = not facts["reordered"] and len(left) < ORDER_FRAMES

    def _zeroed(self) -> Iterator[tuple[int, int]]:
        """(bytes of sound before, bytes) of stretches of zeros between the packets."""
        begin = at = self._begin or 0
        lost, start, before = 0, None, b""
        while block := os.pread(self._file, BLOCK, at):
            if start is None and not any(block):
                start = at - len(before) + len(before.rstrip(b"\0"))
            elif start is not None and any(block):
                length = at + len(block) - len(block.lstrip(b"\0")) - start
                yield start - begin - lost, length
                lost, start = lost + length, None
            at, before = at + len(block), block


def _picture(frame: Any) -> dict[str, Any]:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return {
        "width": frame.width,
        "height": frame.height,
        "matrix": struct.unpack("9i", bytes(matrix)) if matrix else None,
        "transfer": frame.color_trc,
        "primaries": frame.color_primaries,
    }


def timing(runs: list[list[float]]) -> dict[str, Any]:
    """First time, average rate and whether the rate varies, from the sorted presentation times of each run."""
    steps = [after - before for times in runs for before, after in pairwise(times)]
    first = next((times[0] for times in runs if times), None)
    if not steps:
        return {"first": first, "mean_rate": None, "usual_rate": None, "variable": False}
    median, span = statistics.median(steps), sum(times[-1] - times[0] for times in runs if times)
    # 2 ms: containers that count in milliseconds round each time; 3 steps: a cut file lacks some of its last frames
    uneven = sum(abs(step - median) > max(0.1 * median, 0.002) for step in steps)
    paused = abs(span - median * len(steps)) > max(0.5, VARIABLE_SHARE * span)
    return {
        "first": first,
        "mean_rate": len(steps) / span if span else None,
        "usual_rate": 1 / median if median else None,
        "variable": uneven > max(3, VARIABLE_SHARE * len(steps)) or paused,
    }


def seconds(ticks: int | None, tick: Fraction) -> float | None:
    return None if ticks is None else ticks * tick.numerator / tick.denominator
