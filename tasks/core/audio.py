"""The sound of a media as 16 kHz mono FLAC in which sample n lies at media time n / 16000."""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core import channels, ffmpeg
from tasks.core.errors import CorruptMedia, DamagedArtifact, OptionError, ToolFailed
from tasks.core.options import Channel
from tasks.core.schema import MOST_PIXELS, Heard, HeardChannel, MediaInfo
from tasks.core.straighten import straighten_sound

SAMPLE_RATE = 16_000
"""Samples per second that Whisper and Silero VAD expect."""
GAP_S = 0.05
"""Timestamps may jitter by this much; beyond it silence is put in, or sound taken out, to keep media time."""
MISSED_S = 0.25
"""Fewer seconds of sound than the packets promise; decoders drop up to 0.1 s at either end by design."""
TRIMMED_SHARE = 0.01
"""Of the sound, that may be missing where no error was met."""
REALTIME_FACTOR = 0.5
_SILENCE_CHUNK = SAMPLE_RATE * 60

_DECODED = re.compile(r"(\d+) decode errors \((\d+) samples\)")
"""What ffmpeg says at the end of an audio stream."""

FloatArray = npt.NDArray[np.float32]


def sample_count(duration_s: float) -> int:
    """Samples in a track of this length; at least one."""
    return max(1, round(duration_s * SAMPLE_RATE))


def extract_audio(
    path: Path, info: MediaInfo, out: Path, channel: Channel = "auto", timeout_s: float | None = None
) -> Heard:
    """Write the chosen audio stream to `out` (FLAC, 16-bit, mono, 16 kHz), as long as the media.

    One ffmpeg pass: a late start and gaps become silence, and what lies before media time 0.0 is dropped. Where the
    file has several takes, or fewer samples come out than its packets promise, a straightened copy of the sound is
    worked on instead. Of several channels the mix is heard, or what `channel` says, see channels.py. Media without
    audio give silence, and so do those with video whose sound cannot be decoded.
    Raises CorruptMedia, LimitExceeded, OptionError for a channel that is not there, ToolFailed.
    """
    if info.audio is None:
        _write_silence(out, sample_count(info.duration_s))
        return Heard(duration_s=info.duration_s)
    if not info.takes:
        with contextlib.suppress(CorruptMedia, ToolFailed):  # where ffmpeg itself is at fault, it fails on the copy too
            done = _transcode(path, info, out, channel, timeout_s)
            if done and done.is_whole(info.audio.sound_s):
                return Heard(duration_s=info.duration_s, decoded_s=done.decoded_s, channels=done.channels)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="straight-") as folder:
        copy = Path(folder) / path.name  # messages name the media
        try:
            straight, copied = straighten_sound(path, info, copy)
        except CorruptMedia as error:
            if info.video is None:
                raise
            _write_silence(out, sample_count(info.duration_s))
            return Heard(duration_s=info.duration_s, notice=f"Its sound is left out: {error.message}.")
        length_s = info.duration_s
        if info.video is None and abs(straight.duration_s - length_s) > GAP_S and not straight.damage:
            length_s = straight.duration_s
        whole = _transcode(copy, copied.model_copy(update={"duration_s": length_s}), out, channel, timeout_s)
        if whole is None:
            raise CorruptMedia(f"{ffmpeg.media_name(path)}: its sound changes in ways that cannot be followed")
    return Heard(duration_s=length_s, decoded_s=straight.decoded_s, damage=straight.damage, channels=whole.channels)


@dataclass(frozen=True)
class _Transcoded:
    decoded_s: float
    errors: int
    channels: list[HeardChannel]

    def is_whole(self, sound_s: float) -> bool:
        """Whether so much was decoded as the packets hold; what a container trims is left out without errors."""
        missed_s = sound_s - self.decoded_s
        return missed_s <= (MISSED_S if self.errors else max(MISSED_S, TRIMMED_SHARE * sound_s))


def _transcode(path: Path, info: MediaInfo, out: Path, channel: Channel, timeout_s: float | None) -> _Transcoded | None:
    """One ffmpeg run; None where the format changed on the way, which makes a track of no use."""
    assert info.audio is not None  # noqa: S101
    samples = sample_count(info.duration_s)
    only = _number(channel, info.audio.channels)
    compare = channel == "auto" and info.audio.channels > 1
    most_pixels = info.video.most_pixels if info.video else MOST_PIXELS
    sound = ffmpeg.open_media(path, info.container, max_pixels=most_pixels)[str(info.audio.index)]
    if only is not None:
        sound = sound.filter("channelmap", map=str(only), channel_layout="mono")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="channels-") as folder:
        mix, apart = (Path(folder) / "mix.flac", Path(folder) / "channels.w64") if compare else (out, None)
        if apart:
            both = sound.filter_multi_output("asplit", 2)
            outputs = [_mono(mix, both[0], info, samples), _apart(apart, both[1], info)]
        else:
            outputs = [_mono(mix, sound, info, samples)]
        said = ffmpeg.run(
            *outputs,
            media=path,
            timeout_s=timeout_s or ffmpeg.timeout_for(info.duration_s, REALTIME_FACTOR),
            global_options=["-copyts", "-loglevel", "verbose"],
            file_bytes=samples * 2 * (1 + info.audio.channels) + 2**20,
        )
        decoded = _DECODED.search(said)
        if frames_in(mix) != samples or not decoded:
            return None
        heard = channels.hear(mix, apart, out) if apart else []
    if channel != "auto":
        heard = [HeardChannel(start=0, end=info.duration_s, channel=str(channel), reason="as audio.channel asks")]
    return _Transcoded(int(decoded[2]) / info.audio.sample_rate, int(decoded[1]), heard)


def _number(channel: Channel, count: int) -> int | None:
    """The channel's number from 0; None for all of them."""
    if channel in ("auto", "mix"):
        return None
    number = {"left": 1, "right": 2}.get(str(channel)) or int(channel)
    if number > count:
        raise OptionError(f"audio.channel={channel}: the sound has {count} {'channel' if count == 1 else 'channels'}")
    return number - 1


def _mono(out: Path, sound: Any, info: MediaInfo, samples: int) -> Any:
    track = in_media_time(sound, info.start_offset_s)
    track = track.filter("apad", whole_len=samples).filter("atrim", end_sample=samples)
    return ffmpeg.write_to(out, track, format="flac", acodec="flac", sample_fmt="s16", compression_level=5)


def _apart(out: Path, sound: Any, info: MediaInfo) -> Any:
    """All channels side by side, in media time like the mix."""
    return ffmpeg.write_to(out, in_media_time(sound, info.start_offset_s, None), format="w64", acodec="pcm_s16le")


def in_media_time(stream: Any, zero_s: float, layout: str | None = "mono") -> Any:
    """An ffmpeg-python audio stream (read with -copyts) as 16 kHz sound that starts at timestamp `zero_s`.

    `layout` is that of its channels; None leaves them as they are.
    """
    import ffmpeg as graph

    shifted = graph.filter(stream, "asetpts", f"PTS-({zero_s:.9f})/TB")
    return graph.filter(
        shifted,
        "aresample",
        SAMPLE_RATE,
        osf="s16",
        **({"ochl": layout} if layout else {}),
        **{"async": 1, "min_hard_comp": GAP_S, "first_pts": 0},
    )


def load_audio(path: Path, start: float = 0.0, end: float | None = None) -> FloatArray:
    """Samples (n,) float32 in [-1, 1] of media time [start, end) from a track that extract_audio wrote.

    Reads no more than that; what lies beyond the track is left out.  Raises DamagedArtifact for a track that is none.
    """
    import soundfile

    first = max(0, round(start * SAMPLE_RATE))
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.channels) != (SAMPLE_RATE, 1):
                raise DamagedArtifact(
                    f"{path}: {file.samplerate} Hz, {file.channels} channels instead of mono at 16 kHz"
                )
            last = file.frames if end is None else min(file.frames, round(end * SAMPLE_RATE))
            if first >= last:
                return np.zeros(0, np.float32)
            file.seek(first)
            samples: FloatArray = file.read(last - first, dtype="float32")
            if len(samples) != last - first:
                raise DamagedArtifact(f"{path}: the extracted audio ends at sample {first + len(samples)}")
            return samples
    except soundfile.LibsndfileError as error:
        raise DamagedArtifact(f"{path}: the extracted audio cannot be read") from error


def frames_in(path: Path) -> int:
    """Samples in a track, from its header."""
    import soundfile

    return int(soundfile.info(path).frames)


def _write_silence(out: Path, samples: int) -> None:
    import soundfile

    with soundfile.SoundFile(out, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for at in range(0, samples, _SILENCE_CHUNK):
            file.write(np.zeros(min(_SILENCE_CHUNK, samples - at), np.int16))
