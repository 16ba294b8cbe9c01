"""ffmpeg on hostile input: one confined process per call, local files only, real media containers only.

Inputs are given as `file:` and an absolute path, so that no name is taken for an option, a protocol or a device. The
format allowlist keeps playlists, scripts, image sequences and filter sources out before anything of them is followed.
"""

from __future__ import annotations

import functools
import os
import re
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.core.errors import CorruptMedia, LimitExceeded, ToolFailed
from tasks.core.host import available_cores
from tasks.core.sandbox.children import Bounds, Finished, run_program
from tasks.core.schema import MOST_PIXELS

PROTOCOLS = "file,pipe"
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,mxf,"
    "wav,w64,aiff,caf,au,flac,mp3,ogg,aac,ac3,eac3,amr,wv"
)
"""libavformat's names of the containers that are read. None of them opens a second file by itself."""
MOST_THREADS = 16
"""More threads of one codec gain nothing and cost memory each."""
LARGE_SHARE = 0.25
"""A child that held more than this share of the memory it may use was made large by its input."""
LOWER_BOUND_S = 120.0
"""No run is given less: a busy machine must not quarantine a good file."""
TOO_LARGE = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")
"""What libav says of a frame with more pixels than it may have."""

# what ffmpeg says of a file at fault; whose fault anything else is, tasks/stages/canary.py finds out
_MEDIA_FAULTS = re.compile(
    r"Invalid data found|moov atom not found|Error while decoding|error rate|Decoding error|corrupt|Nothing was written"
    r"|Output file is empty|Could not find codec parameters|End of file|does not contain any stream"
    r"|matches no streams|Header missing|not on whitelist",
    re.IGNORECASE,
)
_NOT_ALONE = re.compile(
    r"No space left|Disk quota|Permission denied|No such file|Read-only file system|Unknown encoder|No such filter"
    r"|Unrecognized option|Option not found|Error parsing|Unknown decoder|Too many open files|Input/output error",
    re.IGNORECASE,
)
"""Beside one of these, a message that blames the file may be no more than its consequence."""


def timeout_for(duration_s: float, realtime_factor: float) -> float:
    """Wall-clock bound for work that should take far less than `realtime_factor` seconds per second of media."""
    return LOWER_BOUND_S + realtime_factor * duration_s


def media_name(path: Path) -> str:
    """The file's name with control characters and odd bytes escaped: safe in a log line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path.name)


@functools.cache
def binary() -> str:
    """Path of the ffmpeg that runs: IMAGEIO_FFMPEG_EXE, or the one in imageio-ffmpeg's wheel.  Raises ToolFailed."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ToolFailed(
            "no ffmpeg was found; reinstall imageio-ffmpeg or set IMAGEIO_FFMPEG_EXE to an ffmpeg program"
        ) from error


def thread_count(threads: int | None) -> int:
    """Threads for one codec: what is asked for, else the CPUs that this process may use, at most 16."""
    return min(MOST_THREADS, threads or available_cores())


def open_media(
    path: Path, container: str, *, threads: int | None = None, max_pixels: int = MOST_PIXELS, **options: Any
) -> Any:
    """An ffmpeg-python input of a local media file with the allowlists set; `options` are ffmpeg's input options.

    `container` is what probe found: it is demanded, so that neither name nor content can choose another demuxer here.
    """
    import ffmpeg

    return ffmpeg.input(
        _url(path),
        format=container.split(",")[0],
        protocol_whitelist=PROTOCOLS,
        format_whitelist=DEMUXERS,
        max_pixels=max_pixels,
        threads=thread_count(threads),
        **options,
    )


def write_to(path: Path, *streams: Any, threads: int | None = None, **options: Any) -> Any:
    """An ffmpeg-python output to a local file; metadata and chapters of the input are not carried over."""
    import ffmpeg

    return ffmpeg.output(
        *streams, _url(path), map_metadata=-1, map_chapters=-1, threads=thread_count(threads), **options
    )


def run(
    *outputs: Any,
    media: Path,
    timeout_s: float,
    global_options: Sequence[str] = (),
    reads: Sequence[Path] = (),
    memory_bytes: int = 4 * 2**30,
    file_bytes: int = 2**40,
) -> str:
    """Run one ffmpeg for one or several ffmpeg-python outputs and give what it wrote to stderr.

    `media` is the input, for messages. It sees its inputs and what is in `reads`, and writes into the folders of its
    outputs.  Raises CorruptMedia where the media is at fault, LimitExceeded where a bound
    stopped it, ToolFailed for anything else: that says nothing yet of whose fault it is.
    """
    import ffmpeg

    program = [binary(), "-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-y", *global_options]
    arguments = ffmpeg.get_args(ffmpeg.merge_outputs(*outputs))
    files = [
        (before, Path(one.removeprefix("file:"))) for before, one in pairwise(arguments) if one.startswith("file:")
    ]
    inputs = [path for before, path in files if before == "-i"]
    folders = {path.parent for before, path in files if before != "-i"}
    bounds = Bounds(timeout_s, timeout_s * max(2, os.cpu_count() or 1), memory_bytes, file_bytes)
    try:
        done = run_program([*program, *arguments], bounds, reads=[*inputs, *reads], writes=sorted(folders))
    except OSError as error:
        raise ToolFailed(f"ffmpeg ({program[0]}) could not be started: {error.strerror}") from error
    if done.exceeded:
        raise LimitExceeded(
            f"{media_name(media)}: ffmpeg was stopped, it exceeded its {done.exceeded} bound "
            f"({timeout_s:.0f} s for media of this length); look at the file, it is far slower than media of its kind",
            detail=done.stderr,
        )
    if done.returncode or TOO_LARGE.search(done.stderr):
        raise _failure(done, bounds, media)
    return done.stderr


def too_large(name: str) -> str:
    """The message for a media of which any frame is larger than it may be."""
    return f"{name}: it has frames that are larger than limits.max_pixels, whatever its header says"


def killed_for_memory(done: Finished, bounds: Bounds) -> bool:
    """Was the child killed after its input had made it large? A small one was killed for what others took."""
    return done.returncode == -signal.SIGKILL and done.peak_bytes > LARGE_SHARE * bounds.memory_bytes


def _failure(done: Finished, bounds: Bounds, media: Path) -> Exception:
    name, returncode, stderr = media_name(media), done.returncode, done.stderr
    if TOO_LARGE.search(stderr):
        return LimitExceeded(too_large(name), detail=stderr)
    if "Cannot allocate memory" in stderr or "out of memory" in stderr.lower():
        return LimitExceeded(f"{name}: decoding it needs more memory than a media may use", detail=stderr)
    if returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGBUS, -signal.SIGILL):
        return CorruptMedia(f"{name}: the decoder crashed on it ({signal.Signals(-returncode).name})", detail=stderr)
    if killed_for_memory(done, bounds):
        return LimitExceeded(
            f"{name}: decoding it was stopped at {done.peak_bytes / 2**30:.1f} GiB of memory, more than this host has",
            detail=stderr,
        )
    if returncode < 0:
        return ToolFailed(f"{name}: ffmpeg was killed by {signal.Signals(-returncode).name}", detail=stderr)
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), f"exit status {returncode}")
    if not _NOT_ALONE.search(stderr) and _MEDIA_FAULTS.search(stderr):
        return CorruptMedia(f"{name}: it cannot be decoded ({last})", detail=stderr)
    return ToolFailed(f"{name}: ffmpeg failed ({last})", detail=stderr)


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"
