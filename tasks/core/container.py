"""Opens local media with PyAV under the same allowlists as ffmpeg: one file, no network, no playlists or scripts.

And reads a stream through all recordings of its file (recordings.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from tasks.core.errors import CorruptMedia, EmptySource, ForbiddenFormat, PermissionDenied, SourceNotFound
from tasks.core.ffmpeg import DEMUXERS, PROTOCOLS, media_name
from tasks.core.packet_meter import read_packets
from tasks.core.parameter_sets import in_band
from tasks.core.recordings import Recording, RecordingFile, counterpart, recordings


def open_media(path: Path, number: int = 0) -> InputContainer:
    """An opened container; use it as a context manager. `number` is that of the recording in the file.

    Raises SourceNotFound, PermissionDenied, EmptySource, ForbiddenFormat (a format that is not on the allowlist) or
    CorruptMedia.
    """
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": DEMUXERS}
    try:
        size = path.stat().st_size
        if size == 0:
            raise EmptySource(f"{media_name(path)} is empty; upload it again")
        found = recordings(path)[number]
        source = f"file:{path.absolute()}" if found == Recording(0, size) else RecordingFile(path, found)
        return av.open(source, "r", options=options, metadata_errors="replace")
    except FileNotFoundError as error:
        raise SourceNotFound(f"{media_name(path)} does not exist; check its path") from error
    except PermissionError as error:
        raise PermissionDenied(f"{media_name(path)} may not be read; check its permissions") from error
    except av.FFmpegError as error:
        if "hitelist" in str(error):
            raise ForbiddenFormat(f"{media_name(path)} is no media container that is read here") from error
        raise CorruptMedia(f"{media_name(path)} cannot be opened; upload it again", detail=str(error)) from error


def read_stream(path: Path, container: InputContainer, stream: Any) -> Iterator[Any]:
    """Packets of a stream through all recordings of its file, with times that count in its own ticks.

    The containers stay open to the end of the reading, for decoders are theirs. Pictures of later recordings carry
    their parameter sets, so that the first recording's decoder follows.
    """
    yield from read_packets(container, stream)
    with ExitStack() as opened:
        for number in range(1, len(recordings(path))):
            try:
                later = opened.enter_context(open_media(path, number))
            except CorruptMedia:
                continue
            other = counterpart(later.streams, stream)
            if other is None:
                continue
            for packet in read_packets(later, other):
                told = in_band(packet, other.codec_context) if stream.type == "video" else packet
                for name in ("pts", "dts", "duration"):
                    if (ticks := getattr(told, name)) is not None:
                        setattr(told, name, round(ticks * other.time_base / stream.time_base))
                told.time_base = stream.time_base
                yield told
