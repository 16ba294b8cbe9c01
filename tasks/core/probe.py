"""What a file is: its streams, duration and limits, from its content alone.

Text and images are told by their first bytes; all else is demuxed once, from end to end, by demux.py in a confined
process (0.2 s to start, about 1 s of CPU per hour of media). The full pass gives the exact end of containers that do
not state one, finds a file that was cut, and knows the distance of every frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tasks.core import decoding, picture
from tasks.core.damage import PADDING_S, declared_end, find_damage, lost_seconds
from tasks.core.errors import (
    CorruptMedia,
    CutShort,
    EmptySource,
    EncryptedMedia,
    ForbiddenFormat,
    LimitExceeded,
    NotMedia,
    OptionError,
    PermanentError,
    PermissionDenied,
    SourceNotFound,
    TooShort,
    UnsupportedCodec,
    UnsupportedSource,
)
from tasks.core.ffmpeg import DEMUXERS, media_name
from tasks.core.options import AudioOptions, LimitOptions
from tasks.core.sandbox.children import Bounds
from tasks.core.schema import AudioStream, MediaInfo, Transfer, VideoStream
from tasks.core.timeline import Run, TimeLine, lay_out

SLOWEST_BYTES_PER_S = 10 * 2**20
"""A disk that reads slower than this is given up."""
MEMORY_BYTES, PIXEL_BYTES = 2 * 2**30, 40
"""What looking into a media may take: a constant, and as much for each pixel of the largest frame."""
SHORTEST_S = 0.01
"""Less is neither heard nor seen."""
SCRIPTS = frozenset({"hls", "concat", "dash", "imf", "sdp", "rtsp", "avisynth", "vapoursynth", "webm_dash_manifest"})
SUBTITLES = frozenset(
    {"srt", "ass", "webvtt", "subviewer", "subviewer1", "microdvd", "mpl2", "mpsub", "jacosub", "lrc", "sami"}
    | {"realtext", "scc", "stl", "vplayer", "pjs", "aqtitle", "tedcaptions", "ttml", "sup"}
)
IMAGES = frozenset({"gif", "image2", "image2pipe", "apng", "ico", "webp_anim", "jpegxl_anim"})
TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""By transfer characteristics of ISO/IEC 23091-2; all else is SDR."""
BT2020, UNSPECIFIED = 9, 2
"""Primaries of ISO/IEC 23091-2."""

_MAGIC = (
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|8BPS", re.DOTALL), "an image"),
    (re.compile(rb"....ftyp(avi[fs]|hei[cfsx]|mif1)", re.DOTALL), "an image"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|\xfd7zXZ|\x28\xb5\x2f\xfd|BZh", re.DOTALL), "an archive"),
    (re.compile(rb".{257}ustar", re.DOTALL), "an archive"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"\x7fELF|MZ"), "a program"),
)  # fmt: skip
_NAMES_FILES = re.compile(
    r"#EXTM3U|ffconcat\b|\[playlist\]|\[reference\]|RTSPtext|v=0\s+o=|<asx\b|<smil\b"
    r"|(.*\n){0,20}.{0,2000}<(MPD|SmoothStreamingMedia)\b"
    r"|(.*\n){0,20}(file|https?)[ :]",
    re.IGNORECASE,
)
_CAPTIONS = re.compile(r"WEBVTT|\[Script Info\]|(.*\n){0,5}.*\d\d:\d\d:\d\d[,.]\d+ --> |.{0,200}<tt\b", re.IGNORECASE)


def probe(path: Path, limits: LimitOptions, audio: AudioOptions) -> MediaInfo:
    """The streams that will be analysed, with media times that start at 0.0 where the earliest of them starts.

    Raises NotMedia, ForbiddenFormat, CorruptMedia, CutShort, TooShort, EncryptedMedia, UnsupportedCodec, LimitExceeded,
    EmptySource, SourceNotFound, PermissionDenied; OptionError where `audio.stream` names no stream of this media;
    ToolFailed where PyAV fails and nothing says why.
    """
    name = media_name(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise SourceNotFound(f"{name}: it is gone; fetch it again") from error
    except IsADirectoryError as error:
        raise UnsupportedSource(f"{name}: it is a folder; name a file in it") from error
    except PermissionError as error:
        raise PermissionDenied(f"{name}: this user may not read it") from error
    if not size:
        raise EmptySource(f"{name}: it has no content; upload it again")
    if size > limits.max_bytes:
        raise LimitExceeded(f"{name}: {size} bytes are more than limits.max_bytes={limits.max_bytes}")
    _refuse_by_first_bytes(name, head)
    facts = _demux(path, name, size, limits)
    info = _describe(facts, name, size, audio, limits)
    if info.duration_s > limits.max_duration_s:
        raise LimitExceeded(
            f"{name}: it lasts {info.duration_s:.0f} s, more than limits.max_duration_s={limits.max_duration_s:.0f}"
        )
    return info


def _refuse_by_first_bytes(name: str, head: bytes) -> None:
    for pattern, what in _MAGIC:
        if pattern.match(head):
            raise NotMedia(f"{name}: it is {what}, not video or audio")
    text = _as_text(head)
    if text is None:
        return
    if _CAPTIONS.match(text):
        raise NotMedia(f"{name}: it holds subtitles only")
    if _NAMES_FILES.match(text):
        raise ForbiddenFormat(f"{name}: it is a playlist or script that names other files; give those files themselves")
    raise NotMedia(f"{name}: it is text, whatever its name says")


def _as_text(head: bytes) -> str | None:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or not error.start:
            return None
        text = head[: error.start].decode(encoding)
    return text.lstrip() if all(c.isprintable() or c in "\t\n\r\f\x1b" for c in text) else None


def _demux(path: Path, name: str, size: int, limits: LimitOptions) -> dict[str, Any]:
    wall_s = 60 + size / SLOWEST_BYTES_PER_S
    facts: dict[str, Any] = decoding.call(
        "tasks.core.demux",
        *(str(path.absolute()), limits.model_dump_json(), DEMUXERS),
        media=path,
        doing="looking into it",
        bounds=Bounds(wall_s, wall_s, MEMORY_BYTES + PIXEL_BYTES * limits.max_pixels),
    )
    if "refused" in facts:
        raise _refusal(name, facts["refused"], facts["message"], facts["log"], limits)
    return facts


def _refusal(name: str, verdict: str, message: str, log: str, limits: LimitOptions) -> PermanentError:
    if verdict == "format":
        if message in SCRIPTS:
            return ForbiddenFormat(f"{name}: it is a script ({message}); give the files that it names", detail=log)
        if message in IMAGES or message.endswith("_pipe"):
            return NotMedia(f"{name}: it is an image, not video or audio", detail=log)
        if message in SUBTITLES:
            return NotMedia(f"{name}: it holds subtitles only", detail=log)
        return ForbiddenFormat(
            f"{name}: the container format {message} is not read; convert it to MP4 or Matroska first", detail=log
        )
    if verdict == "pixels":
        return LimitExceeded(
            f"{name}: its header claims {message} pixels, limits.max_pixels={limits.max_pixels}", detail=log
        )
    if verdict == "streams":
        return LimitExceeded(f"{name}: it has {message} streams, limits.max_streams={limits.max_streams}", detail=log)
    if verdict == "packets":
        return LimitExceeded(
            f"{name}: it has more packets than limits.max_packets={limits.max_packets} ({message})", detail=log
        )
    if verdict == "memory":
        return LimitExceeded(f"{name}: {message} needs more memory than a media may use", detail=log)
    if verdict == "cut":
        return CutShort(
            f"{name}: it is cut short, before anything can be decoded ({message}); upload it again", detail=log
        )
    if verdict == "corrupt":
        return CorruptMedia(f"{name}: it cannot be opened ({message}); upload it again", detail=log)
    return NotMedia(f"{name}: its content is no video or audio format that is known", detail=log)


def _describe(facts: dict[str, Any], name: str, size: int, audio: AudioOptions, limits: LimitOptions) -> MediaInfo:
    streams = facts["streams"]
    videos = [s for s in streams if s["kind"] == "video" and not s["attached"]]
    audios = [s for s in streams if s["kind"] == "audio"]
    if not videos and not audios:
        kinds = sorted({s["kind"] for s in streams}) or ["no"]
        raise NotMedia(f"{name}: it holds {' and '.join(kinds)} streams only, neither video nor audio")
    video = _choose_video([s for s in videos if s["decoded"] and s["runs"]])
    heard = [s for s in audios if s["decoded"] and s["runs"]]
    if not video and not heard:
        raise _undecodable(facts, videos + audios, name)
    chosen = _choose_audio(heard, audio, name)
    used = heard + ([video] if video else [])
    line = lay_out([_run(stream, run) for stream in used for run in stream["runs"]], always=facts["apart"])
    container = facts["container"]
    spans = {s["index"]: _span(s, line, container) for s in used}
    duration_s = max(end for _, end in spans.values())
    if duration_s < SHORTEST_S:
        raise TooShort(
            f"{name}: it lasts {duration_s:.6f} s; give media of {SHORTEST_S} s or more", detail=facts["log"]
        )
    damage = find_damage(facts, [s for s in (chosen, video) if s], line, duration_s, size)
    tracks = [_audio_stream(s, *spans[s["index"]]) for s in heard]
    return MediaInfo(
        container=container,
        bytes=size,
        duration_s=duration_s,
        start_offset_s=line.start_offset_s,
        video=_video_stream(video, videos.index(video), spans[video["index"]], limits) if video else None,
        audio=tracks[heard.index(chosen)] if chosen else None,
        audio_streams=tracks,
        takes=line.takes,
        damaged=bool(damage),
        lost_s=lost_seconds(damage),
        damage=damage,
        notices=[_why_not(s) for s in videos + audios if s["packets"] and s not in used and not s["decoded"]],
    )


def _undecodable(facts: dict[str, Any], streams: list[dict[str, Any]], name: str) -> PermanentError:
    if facts["encrypted"] or any(s["encrypted"] for s in streams):
        return EncryptedMedia(f"{name}: it is encrypted; give it without encryption or DRM", detail=facts["log"])
    if facts["doubtful"]:
        return NotMedia(f"{name}: its content is no video or audio format that is known", detail=facts["log"])
    if not any(s["decodable"] for s in streams):
        codecs = ", ".join(f"{s['kind']}: {s['codec'] or 'unknown'}" for s in streams)
        return UnsupportedCodec(f"{name}: there is no decoder for it ({codecs}); convert it to H.264 and AAC first")
    if not any(s["packets"] for s in streams):
        return CutShort(f"{name}: it ends behind its header, with nothing to decode; upload it again")
    return CorruptMedia(f"{name}: none of its streams can be decoded; upload it again", detail=facts["log"])


def _why_not(stream: dict[str, Any]) -> str:
    """The notice for a stream that is left out."""
    what = "sound" if stream["kind"] == "audio" else "video"
    if stream["encrypted"]:
        why = "it is encrypted"
    elif not stream["decodable"]:
        why = f"there is no decoder for it ({stream['codec'] or 'unknown codec'})"
    else:
        why = f"it cannot be decoded ({stream['codec']})"
    return f"One {what} stream (number {stream['index']}) is left out: {why}."


def _run(stream: dict[str, Any], run: dict[str, Any]) -> Run:
    declared = stream["declared_start"]
    is_first = run is stream["runs"][0] and declared is not None
    return Run(
        stream["index"], run["packet"], run["order"], declared if is_first else run["first"], run["end"], run["last"]
    )


def _span(stream: dict[str, Any], line: TimeLine, container: str) -> tuple[float, float]:
    """Media times of the stream's start and end."""
    key = stream["index"]
    runs = [_run(stream, run) for run in stream["runs"]]
    start = min(run.first - line.shifts[key, run.packet] for run in runs)
    end = max(run.end - line.shifts[key, run.packet] for run in runs)
    stated = declared_end(stream, container)
    if not line.takes and stated is not None and abs(stated - stream["end"]) <= PADDING_S:
        end = stated - line.start_offset_s
    return start, max(start, end)


def _default(streams: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return next((s for s in streams if s["default"]), streams[0] if streams else None)


def _choose_video(streams: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The container's own choice among those that move and last: a cover or preview may be a stream like any other."""
    moving = [s for s in streams if s["packets"] > 1] or streams
    longest = max((_length(s) for s in moving), default=0.0)
    return _default([s for s in moving if _length(s) >= longest / 2])


def _length(stream: dict[str, Any]) -> float:
    return float(sum(run["end"] - run["first"] for run in stream["runs"]))


def _choose_audio(streams: Sequence[dict[str, Any]], options: AudioOptions, name: str) -> dict[str, Any] | None:
    """By position among the audio streams, or by language ("en" finds "eng"); by default the container's own choice."""
    wanted = options.stream
    if wanted is None:
        return _default(streams)
    listed = ", ".join(f"{i} ({s['language'] or 'no language'})" for i, s in enumerate(streams)) or "none"
    if isinstance(wanted, int):
        if not 0 <= wanted < len(streams):
            raise OptionError(f"{name}: audio.stream={wanted} is none of its audio streams: {listed}")
        return streams[wanted]
    spoken = [(s, (s["language"] or "").lower()) for s in streams if wanted]
    same = [s for s, language in spoken if language == wanted.lower()]
    alike = [s for s, language in spoken if language.startswith(wanted.lower())]
    found = _default(same) or _default(alike)
    if found is None:
        raise OptionError(f"{name}: audio.stream={wanted} is the language of none of its audio streams: {listed}")
    return found


def _video_stream(stream: dict[str, Any], ordinal: int, span: tuple[float, float], limits: LimitOptions) -> VideoStream:
    start_s, end_s = span
    rotation, mirrored = picture.orientation(stream["matrix"])
    stored = stream["width"], stream["height"]
    width, height = picture.displayed_size(stored, Fraction(stream["pixel_aspect"]), rotation)
    transfer = TRANSFERS.get(stream["transfer"], "sdr")
    return VideoStream(
        index=stream["index"],
        codec=stream["codec"],
        width=width,
        height=height,
        rotation=rotation,
        mirrored=mirrored,
        stored_width=stored[0],
        stored_height=stored[1],
        transfer=transfer,
        primaries="bt2020" if _is_wide(stream["primaries"], transfer) else "bt709",
        fps=_rate(stream),
        variable_fps=stream["variable"],
        start=start_s,
        duration_s=end_s - start_s,
        frames=stream["frames"],
        pixel_format=stream["pixel_format"],
        ordinal=ordinal,
        decoding_delay=stream["delay"] if stream["reordered"] else 0,
        most_pixels=limits.max_pixels,
    )


def _is_wide(primaries: int, transfer: Transfer) -> bool:
    """HDR that names no primaries has those of BT.2100."""
    return primaries == BT2020 or (transfer != "sdr" and primaries == UNSPECIFIED)


def _rate(stream: dict[str, Any]) -> Fraction:
    """The header's rate where the frames bear it out, else the frames' own average."""
    declared = Fraction(stream["rate"])
    measured = [rate for rate in (stream["mean_rate"], stream["usual_rate"]) if rate]
    if not measured:
        return declared or Fraction(1)
    if not stream["variable"] and any(abs(float(declared) - rate) <= 0.02 * rate for rate in measured):
        return declared
    return Fraction(measured[0]).limit_denominator(1001)


def _audio_stream(stream: dict[str, Any], start_s: float, end_s: float) -> AudioStream:
    return AudioStream(
        index=stream["index"],
        codec=stream["codec"],
        sample_rate=stream["sample_rate"],
        channels=stream["channels"],
        language=None if stream["language"] in (None, "und", "") else stream["language"],
        start=start_s,
        duration_s=end_s - start_s,
        sound_s=stream["sound"],
    )
