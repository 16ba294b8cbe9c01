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

from tasks.core import ffmpeg
from tasks.core.errors import CorruptMedia, DamagedArtifact, ToolFailed
from tasks.core.schema import Heard, MediaInfo
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


def extract_audio(path: Path, info: MediaInfo, out: Path, timeout_s: float | None = None) -> Heard:
    """Write the chosen audio stream to `out` (FLAC, 16-bit, mono, 16 kHz), as long as the media.

    One ffmpeg pass: a late start and gaps become silence, and what lies before media time 0.0 is dropped. Where the
    file has several takes, or fewer samples come out than its packets promise, a straightened copy of the sound is
    worked on instead. Media without audio give silence, and so do those with video whose sound cannot be decoded.
    Raises CorruptMedia, LimitExceeded, ToolFailed.
    """
    if info.audio is None:
        _write_silence(out, sample_count(info.duration_s))
        return Heard(duration_s=info.duration_s)
    if not info.takes:
        with contextlib.suppress(CorruptMedia, ToolFailed):  # where ffmpeg itself is at fault, it fails on the copy too
            done = _transcode(path, info, out, timeout_s)
            if done and done.is_whole(info.audio.sound_s):
                return Heard(duration_s=info.duration_s, decoded_s=done.decoded_s)
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
        if _transcode(copy, copied.model_copy(update={"duration_s": length_s}), out, timeout_s) is None:
            raise CorruptMedia(f"{ffmpeg.media_name(path)}: its sound changes in ways that cannot be followed")
    return Heard(duration_s=length_s, decoded_s=straight.decoded_s, damage=straight.damage)


@dataclass(frozen=True)
class _Transcoded:
    decoded_s: float
    errors: int

    def is_whole(self, sound_s: float) -> bool:
        """Whether so much was decoded as the packets hold; what a container trims is left out without errors."""
        missed_s = sound_s - self.decoded_s
        return missed_s <= (MISSED_S if self.errors else max(MISSED_S, TRIMMED_SHARE * sound_s))


def _transcode(path: Path, info: MediaInfo, out: Path, timeout_s: float | None) -> _Transcoded | None:
    """One ffmpeg run; None where the format changed on the way, which makes a track of no use."""
    assert info.audio is not None  # noqa: S101
    samples = sample_count(info.duration_s)
    source = ffmpeg.open_media(path, info.container)
    track = in_media_time(source[str(info.audio.index)], info.start_offset_s)
    track = track.filter("apad", whole_len=samples).filter("atrim", end_sample=samples)
    said = ffmpeg.run(
        ffmpeg.write_to(out, track, format="flac", acodec="flac", sample_fmt="s16", compression_level=5),
        media=path,
        timeout_s=timeout_s or ffmpeg.timeout_for(info.duration_s, REALTIME_FACTOR),
        global_options=["-copyts", "-loglevel", "verbose"],
        file_bytes=samples * 4 + 2**20,
    )
    decoded = _DECODED.search(said)
    if frames_in(out) != samples or not decoded:
        return None
    return _Transcoded(int(decoded[2]) / info.audio.sample_rate, int(decoded[1]))


def in_media_time(stream: Any, zero_s: float) -> Any:
    """An ffmpeg-python audio stream (read with -copyts) as 16 kHz mono that starts at timestamp `zero_s`."""
    import ffmpeg as graph

    shifted = graph.filter(stream, "asetpts", f"PTS-({zero_s:.9f})/TB")
    return graph.filter(
        shifted,
        "aresample",
        SAMPLE_RATE,
        ochl="mono",
        osf="s16",
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
