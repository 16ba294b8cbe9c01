"""Tiny media, generated: each function writes one file (seconds long, kilobytes large) and returns its path.

Frames carry their own ordinal as black and white squares (`read_ordinal`) that survive compression, scaling and
rotation by a multiple of 90 degrees undone; sound is silence with short clicks at known times (`find_clicks`).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 192, 108
FPS = 25
CLICK_S = 0.005
ORDINAL_BITS = 10
CLICKS = (0.5, 1.5, 2.75)

FloatArray = npt.NDArray[np.float32]
ImageArray = npt.NDArray[np.uint8]


def ffmpeg(*arguments: str | Path) -> None:
    """One run of the bundled ffmpeg; a failure shows its stderr."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def draw_ordinal(ordinal: int, width: int = WIDTH, height: int = HEIGHT) -> ImageArray:
    """A grey RGB frame (height, width, 3) with `ordinal` in binary: squares in two rows of five, low bit first."""
    frame = np.full((height, width, 3), 128, np.uint8)
    for bit in range(ORDINAL_BITS):
        row, column = divmod(bit, 5)
        top, bottom = row * height // 2, (row + 1) * height // 2
        left, right = column * width // 5, (column + 1) * width // 5
        frame[top:bottom, left:right] = 235 if ordinal >> bit & 1 else 16
    return frame


def read_ordinal(frame: ImageArray) -> int:
    """The ordinal that `draw_ordinal` drew, from an upright RGB or grey frame of any size."""
    grey = frame.mean(axis=2) if frame.ndim == 3 else frame
    height, width = grey.shape
    bits = 0
    for bit in range(ORDINAL_BITS):
        row, column = divmod(bit, 5)
        y, x = int((row + 0.5) * height / 2), int((column + 0.5) * width / 5)
        bits |= int(grey[y - 2 : y + 3, x - 2 : x + 3].mean() > 128) << bit
    return bits


def clicks(seconds: float, times: Sequence[float], rate: int) -> FloatArray:
    """Silence (samples,) with a 5 ms burst of 2 kHz that starts at each time."""
    sound = np.zeros(round(seconds * rate), np.float32)
    burst = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(round(CLICK_S * rate)) / rate).astype(np.float32)
    for time in times:
        at = round(time * rate)
        sound[at : at + len(burst)] = burst[: len(sound) - at]
    return sound


def find_clicks(sound: FloatArray, rate: int) -> list[float]:
    """Times at which sound exceeds a tenth of full scale after 50 ms below it."""
    loud = np.flatnonzero(np.abs(sound) > 0.1) / rate
    return [float(time) for index, time in enumerate(loud) if index == 0 or time - loud[index - 1] > 0.05]


def write(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: int = FPS,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    frame_times: Sequence[float] | None = None,
    video: str | None = "libx264",
    video_start: float = 0.0,
    gop: int = 12,
    rotation: int = 0,
    audio: str | None = "aac",
    rate: int = 44_100,
    audio_start: float = 0.0,
    audio_seconds: float | None = None,
    click_times: Sequence[float] = CLICKS,
    languages: Sequence[str | None] = (None,),
    container_format: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """One file in the container of its suffix: numbered frames and one track of clicks per language.

    `click_times` are file times (they hold whatever `audio_start` is); stream k has its first k + 1 clicks only
    when there are several languages, so that streams differ. `rotation` is the clockwise turn for display: frames are
    stored turned back, so that a player shows them upright.
    """
    with av.open(str(path), "w", format=container_format, options=options or {}) as container:
        pending: list[tuple[float, Any]] = []
        if video:
            pending += _video_packets(container, video, seconds, fps, size, frame_times, video_start, gop, rotation)
        for number, language in enumerate(languages if audio else ()):
            heard = click_times if len(languages) == 1 else click_times[: number + 1]
            length = seconds - audio_start if audio_seconds is None else audio_seconds
            sound = clicks(length, [time - audio_start for time in heard if time >= audio_start], rate)
            pending += _audio_packets(container, str(audio), sound, rate, audio_start, language)
        for _, packet in sorted(pending, key=lambda item: item[0]):
            container.mux(packet)
    return path


def _video_packets(
    container: Any,
    codec: str,
    seconds: float,
    fps: int,
    size: tuple[int, int],
    frame_times: Sequence[float] | None,
    start: float,
    gop: int,
    rotation: int,
) -> list[tuple[float, Any]]:
    width, height = size if rotation % 180 == 0 else size[::-1]
    stream = container.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    if codec == "mjpeg":
        stream.pix_fmt, stream.codec_context.color_range = "yuvj420p", 2
    stream.codec_context.gop_size = gop
    stream.codec_context.time_base = Fraction(1, 90_000 if frame_times else fps)
    if codec == "libx264":
        stream.codec_context.options = {"preset": "ultrafast", "threads": "1", "bf": "2", "crf": "18"}
    if rotation:
        stream.set_display_rotation(-rotation)
    times = frame_times or [index / fps for index in range(round(seconds * fps))]
    packets = []
    for index, time in enumerate(times):
        image = np.ascontiguousarray(np.rot90(draw_ordinal(index, *size), rotation // 90))
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
        frame.time_base = stream.codec_context.time_base
        frame.pts = round((time + start) / frame.time_base)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return [(float(packet.dts * packet.time_base), packet) for packet in packets]


def _audio_packets(
    container: Any, codec: str, sound: FloatArray, rate: int, start: float, language: str | None
) -> list[tuple[float, Any]]:
    stream = container.add_stream(codec, rate=rate, layout="mono")
    if language:
        stream.metadata["language"] = language
    planar = stream.codec_context.format.name if stream.codec_context.format else "s16"
    resampler = av.AudioResampler(format=planar, layout="mono", rate=rate)
    packets = []
    step = stream.codec_context.frame_size or 1024
    for at in range(0, len(sound), step):
        block = sound[at : at + step]
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at + round(start * rate)
        for converted in resampler.resample(frame):
            packets += stream.encode(converted)
    packets += stream.encode(None)
    return [(float(packet.dts * packet.time_base), packet) for packet in packets]


def talk(path: Path) -> Path:
    """4 s of video with sound, H.264 and AAC, clicks at CLICKS."""
    return write(path)


def variable_rate(path: Path) -> Path:
    """50 frames in 4 s: 40 ms apart in the first second, 120 ms apart after it."""
    return write(path, frame_times=[0.04 * i if i < 25 else 1 + 0.12 * (i - 25) for i in range(50)])


def rotated(path: Path, rotation: int = 90) -> Path:
    """A phone video: stored turned, with a display matrix that turns it clockwise; upright it is 192x108."""
    return write(path, rotation=rotation)


def languages(path: Path) -> Path:
    """Three audio streams, eng, deu and untagged: one, two and three of the CLICKS."""
    return write(path, languages=("eng", "deu", None))


def audio_only(path: Path, seconds: float = 4.0) -> Path:
    """Clicks without pictures; the codec follows the suffix."""
    codec = {".mp3": "libmp3lame", ".flac": "flac", ".wav": "pcm_s16le", ".ogg": "libopus"}.get(path.suffix, "aac")
    return write(path, video=None, audio=codec, seconds=seconds, rate=48_000 if codec == "libopus" else 44_100)


def video_only(path: Path, seconds: float = 4.0) -> Path:
    """Numbered frames without sound."""
    return write(path, audio=None, seconds=seconds)


def late_audio(path: Path, start: float = 1.0) -> Path:
    """Video from 0, audio from `start`; clicks at 1.5 and 2.75."""
    return write(path, audio_start=start, click_times=CLICKS[1:])


def late_video(path: Path, start: float = 1.0) -> Path:
    """Audio from 0, the first of 75 frames at `start`."""
    return write(path, video_start=start, seconds=3.0, audio_seconds=4.0)


def transport_stream(path: Path, clock_s: float = 1000.0, gop: int = 12) -> Path:
    """MPEG-TS whose clock starts near `clock_s`, as a broadcast's may; the CLICKS count from the first frame."""
    return write(path, container_format="mpegts", gop=gop, options={"output_ts_offset": str(clock_s)})


def cover_art(path: Path) -> Path:
    """An MP3 with a JPEG cover: audio only, whatever it looks like."""
    sound, picture = audio_only(path.with_suffix(".plain.mp3")), still_image(path.with_suffix(".jpg"))
    ffmpeg("-i", sound, "-i", picture, "-map", "0:a", "-map", "1:v", "-c", "copy", "-id3v2_version", "3",
           "-disposition:v", "attached_pic", path)  # fmt: skip
    return path


def still_image(path: Path) -> Path:
    """One picture; the format follows the suffix (.jpg, .png, .webp, .gif)."""
    from PIL import Image

    Image.fromarray(draw_ordinal(5)).save(path)
    return path


def subtitles_only(path: Path) -> Path:
    """A Matroska file that holds one subtitle stream and nothing else."""
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:02,000\nNothing but words\n")
    ffmpeg("-i", text, "-c:s", "subrip", path)
    return path


def without_moov(path: Path) -> Path:
    """An MP4 cut before its index, which stands at the end: nothing can be read."""
    return truncated(path, 0.5, faststart=False)


def truncated(path: Path, keep: float = 0.5, *, faststart: bool = True) -> Path:
    """The first `keep` of a file's bytes; the index of an MP4 is at its front, so that half of it can be played."""
    options = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else None
    data = write(path, options=options).read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def huge_header(path: Path) -> Path:
    """A container (.mp4, .mkv or .avi) whose header claims frames of 65535 x 65535 pixels."""
    write(path, audio=None, video="mjpeg" if path.suffix == ".avi" else "libx264", seconds=0.5, size=(304, 272))
    data = bytearray(path.read_bytes())
    if path.suffix == ".mp4":
        _patch(data, b"avc1", 28, struct.pack(">HH", 0xFFFF, 0xFFFF), last=True)
        _patch(data, b"tkhd", 80, struct.pack(">II", 0xFFFF0000, 0xFFFF0000))
    elif path.suffix == ".mkv":
        _patch(data, b"\xb0\x82\x01\x30", 2, b"\xff\xff")
        _patch(data, b"\xba\x82\x01\x10", 2, b"\xff\xff")
    else:
        _patch(data, b"strf", 12, struct.pack("<II", 0xFFFF, 0xFFFF))
        _patch(data, b"avih", 40, struct.pack("<II", 0xFFFF, 0xFFFF))
    path.write_bytes(data)
    return path


def _patch(data: bytearray, name: bytes, offset: int, value: bytes, *, last: bool = False) -> None:
    at = data.rfind(name) if last else data.find(name)
    assert at >= 0, name
    data[at + offset : at + offset + len(value)] = value


def hls_playlist(path: Path, names: Path) -> Path:
    """An HLS playlist that names a local file."""
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nfile://{names}\n#EXT-X-ENDLIST\n")
    return path


def concat_script(path: Path, names: Path) -> Path:
    """An ffconcat script that names a local file."""
    path.write_text(f"ffconcat version 1.0\nfile '{names}'\n")
    return path
