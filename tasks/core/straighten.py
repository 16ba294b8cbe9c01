"""Copies of a stream on which ffmpeg can work as on any other: one clock, one format, sample n at media time n / rate.

Needed where a file has several takes, its sound changes rate or channels, or some of it does not decode. PyAV reads the
packets in the file's order, in a confined process of its own, for what it reads is damaged more often than not.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import decoding
from tasks.core.errors import CorruptMedia, PermanentError
from tasks.core.ffmpeg import media_name, timeout_for
from tasks.core.packet_meter import GAP_S
from tasks.core.sandbox.children import Bounds
from tasks.core.schema import Damage, Heard, MediaInfo
from tasks.core.timeline import on_one_clock

JITTER_S = 0.05
"""Timestamps may jitter by this much; beyond it silence is put in, or sound left out, to keep media time."""
UNTIMED = frozenset({"aac", "mp3", "ac3", "eac3", "amr"})
"""Containers without a time of their own: sound follows on sound."""
COUNTING = frozenset({"flac", "ogg"})
"""Their times count samples, and libavformat knows the first recording's rate only."""
LEAST_RATE = 16_000
LEAD_S = 10
"""A straightened picture starts at this time, so that decoding times before the first frame stay positive."""
REALTIME_FACTOR = 2.0
MOST_CHANNELS = 8
"""Of a FLAC file."""


def straighten_sound(path: Path, info: MediaInfo, out: Path) -> tuple[Heard, MediaInfo]:
    """Writes the chosen sound to `out` (FLAC, its first format); what was decoded, and the copy's own MediaInfo.

    Raises CorruptMedia where nothing decodes, LimitExceeded, ToolFailed.
    """
    assert info.audio is not None  # noqa: S101
    found = Heard.model_validate(_run("sound", path, info, out))
    if not found.decoded_s:
        raise CorruptMedia(f"{media_name(path)}: nothing of its {info.audio.codec} sound can be decoded")
    track = info.audio.model_copy(update={"index": 0, "start": 0.0, "duration_s": found.duration_s})
    straight = {"container": "flac", "start_offset_s": 0.0, "takes": [], "video": None, "audio": track}
    return found, info.model_copy(update=straight)


def straighten_picture(path: Path, info: MediaInfo, out: Path) -> MediaInfo:
    """Copies the packets of the video to `out` (Matroska) on one clock, and gives the copy's own MediaInfo.

    Where there are times of decoding only they become Matroska's one time per packet, from which libavformat reckons
    the delay of decoding back by itself.  Raises CorruptMedia, LimitExceeded, ToolFailed.
    """
    assert info.video is not None  # noqa: S101
    _run("picture", path, info, out)
    video = info.video.model_copy(update={"index": 0, "decoding_delay": 0})
    straight = {"container": "matroska,webm", "start_offset_s": float(LEAD_S), "takes": [], "video": video}
    return info.model_copy(update=straight)


def _run(what: str, path: Path, info: MediaInfo, out: Path) -> Any:
    wall_s = timeout_for(info.duration_s, REALTIME_FACTOR)
    told = info.model_dump_json(exclude={"audio_streams", "damage", "notices"})
    arguments = what, str(path.absolute()), str(out.absolute()), told
    found = decoding.call(
        __name__,
        *arguments,
        media=path,
        doing="putting it on one clock",
        bounds=Bounds(wall_s, wall_s),
        writes=[out.parent],
    )
    if "failed" in found:
        raise CorruptMedia(f"{media_name(path)}: its {what} cannot be copied ({found['failed']})")
    return found


def main(what: str, path: str, out: str, info: str) -> None:
    """The child."""
    import av

    from tasks.core.container import open_media

    av.logging.set_level(av.logging.PANIC)
    media, copy = MediaInfo.model_validate_json(info), {"sound": _sound, "picture": _picture}[what]
    try:
        with open_media(Path(path)) as container:
            found = copy(Path(path), container, media, Path(out))
    except (av.FFmpegError, PermanentError) as error:
        found = {"failed": str(error)}
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()


def _packets(path: Path, container: Any, info: MediaInfo, index: int) -> Iterator[Any]:
    from tasks.core.container import read_stream

    packets = on_one_clock(read_stream(path, container, container.streams[index]), info, index)
    return (packet for packet in packets if packet.size)


def _picture(path: Path, container: Any, info: MediaInfo, out: Path) -> dict[str, Any]:
    import av

    assert info.video is not None  # noqa: S101
    with av.open(str(out), "w", format="matroska") as copy:
        source = container.streams[info.video.index]
        stream = copy.add_stream_from_template(source, opaque=True)
        lead = round((LEAD_S - Fraction(info.start_offset_s)) / source.time_base)
        latest = 0
        for packet in _packets(path, container, info, info.video.index):
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is None:
                continue
            packet.dts = latest = max(stamp + lead, latest + 1)
            packet.pts = latest if packet.pts is None else max(packet.pts + lead, latest)
            packet.stream = stream
            copy.mux(packet)
    return {}


def _sound(path: Path, container: Any, info: MediaInfo, out: Path) -> dict[str, Any]:
    import av

    assert info.audio is not None  # noqa: S101
    index, lost = info.audio.index, []
    stream = container.streams[index]
    context, tick = stream.codec_context, stream.time_base
    with _Track(out, info, tick) as track:
        for packet in _packets(path, container, info, index):
            if packet.stream is not stream:  # of another recording
                _drain(context, track)
                stream, context = packet.stream, packet.stream.codec_context
            try:
                context, frames = _decode(context, packet)
            except (av.FFmpegError, ValueError):
                frames = []
                start_s = None if packet.pts is None else float(packet.pts * tick) - info.start_offset_s
                length_s = float((packet.duration or 0) * tick)
                lost.append((track.reached_s if start_s is None else start_s, length_s))
            for frame in frames:
                track.put(frame)
        _drain(context, track)
    damage = _joined(lost)
    found = Heard(duration_s=track.written_s, decoded_s=track.decoded_s, damage=damage)
    return found.model_dump(mode="json")


def _drain(context: Any, track: _Track) -> None:
    import av

    with contextlib.suppress(av.FFmpegError, ValueError):
        for frame in context.decode(None):
            track.put(frame)


def _decode(context: Any, packet: Any) -> tuple[Any, list[Any]]:
    """The decoder and its frames: a new one where the old is bound to the header of another recording."""
    import av

    try:
        return context, context.decode(packet)
    except (av.FFmpegError, ValueError):
        fresh = av.CodecContext.create(context.name, "r")
        frames = fresh.decode(packet)
        if not frames:
            raise
        return fresh, frames


def _joined(lost: list[tuple[float, float]]) -> list[Damage]:
    """Stretches of packets that do not decode, those that touch as one; where recordings are joined, one may fail."""
    joined: list[list[float]] = []
    for start, length_s in lost:
        if joined and start - joined[-1][1] <= JITTER_S:
            joined[-1][1] = max(joined[-1][1], start + length_s)
        else:
            joined.append([start, start + length_s])
    return [
        Damage(start=max(0.0, start), end=max(0.0, end), lost_s=end - start, kind="undecodable", stream="audio")
        for start, end in joined
        if end - start >= GAP_S
    ]


class _Track:
    """A FLAC file that frames are put into at their media times."""

    def __init__(self, out: Path, info: MediaInfo, tick: Fraction) -> None:
        self._out, self._offset_s, self._tick = out, info.start_offset_s, tick
        self._timed = info.container not in UNTIMED
        self._counts_samples = info.container in COUNTING
        self._longest = 2 * info.duration_s + 60
        """A damaged clock must not fill the disk with silence."""
        self._file: Any = None
        self._rate, self._layout, self._first_rate = 0, "", 0
        self._resampler: Any = None
        self._format: tuple[Any, ...] = ()
        self._samples = 0
        self.reached_s = 0.0
        """Media time up to which sound was put in."""
        self.decoded_s = 0.0

    @property
    def written_s(self) -> float:
        return self._samples / self._rate if self._rate else 0.0

    def __enter__(self) -> _Track:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()

    def put(self, frame: Any) -> None:
        if not frame.samples or not frame.sample_rate:
            return
        length_s = frame.samples / frame.sample_rate
        start_s = self.reached_s
        of_first_rate = self._first_rate in (0, frame.sample_rate)
        if self._timed and frame.pts is not None and (of_first_rate or not self._counts_samples):
            start_s = float(frame.pts * self._tick) - self._offset_s
        if abs(start_s - self.reached_s) <= JITTER_S and self._file is not None:
            start_s = self.reached_s
        skip_s = max(0.0, self.reached_s - start_s)
        if skip_s >= length_s or start_s > self._longest:
            return
        if self._file is None:
            self._open(frame)
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if start_s > self.reached_s or form != self._format:
            self._flush()
            self._pad(start_s)
            self._start(form)
        self._write(frame, skip_s)
        self.reached_s = max(start_s, self.reached_s) + length_s - skip_s
        self.decoded_s += length_s - skip_s

    def _open(self, frame: Any) -> None:
        import soundfile

        self._first_rate = frame.sample_rate
        self._rate, self._layout = max(LEAST_RATE, frame.sample_rate), frame.layout.name
        channels = frame.layout.nb_channels
        if channels > MOST_CHANNELS:
            self._layout, channels = "stereo", 2
        self._file = soundfile.SoundFile(self._out, "w", self._rate, channels, format="FLAC", subtype="PCM_16")

    def _start(self, form: tuple[Any, ...]) -> None:
        import av

        self._format = form
        self._resampler = av.AudioResampler(format="s16", layout=self._layout, rate=self._rate)

    def _write(self, frame: Any, skip_s: float) -> None:
        frame.pts = None
        skip = round(skip_s * self._rate)
        for out in self._resampler.resample(frame):
            self._append(out, skip)
            skip = max(0, skip - out.samples)

    def _append(self, frame: Any, skip: int) -> None:
        samples: np.ndarray = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)[skip:]
        self._file.write(samples)
        self._samples += len(samples)

    def _flush(self) -> None:
        if self._resampler is not None:
            for frame in self._resampler.resample(None):
                self._append(frame, 0)
        self._resampler, self._format = None, ()

    def _pad(self, until_s: float) -> None:
        missing = math.floor(until_s * self._rate) - self._samples
        while missing > 0:
            count = min(missing, self._rate * 60)
            self._file.write(np.zeros((count, self._file.channels), np.int16))
            self._samples, missing = self._samples + count, missing - count
