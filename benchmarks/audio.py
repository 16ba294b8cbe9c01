"""Audio extraction to 16 kHz mono: our ffmpeg pass against a plain ffmpeg command, PyAV and librosa.

Sources: the sound of a film (26 s, stereo), once in its video and once repeated to some minutes and encoded in the
formats that recordings come in. Every side writes one FLAC file, 16-bit, 16 kHz, mono; the time runs from opening the
source to the closed file. Ours is told what probe found, and pads, cuts and shifts the sound to media time, which the
others do not; PyAV and librosa hold the whole sound in memory. librosa reads only what libsndfile does: not MP4.

The check: as long as ours within 0.15 s, and, moved by at most as much, the same sound: what differs is at least 20 dB
below it (resamplers differ near 8 kHz).
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._results import Plot, Row, Table, parser, publish
from benchmarks._turns import Side, alternate
from tasks.core.schema import MediaInfo

NAME = "audio"
FILM = "video/sintel.mp4"
OURS = "reelflow"
RATE = 16_000
LENGTH_TOLERANCE_S = 0.15
"""An AAC stream ends with padding that ours cuts off at the end of the media, and PyAV does not."""
LEAST_RATIO_DB = 20.0
ENCODINGS = {
    "AAC in MP4": ("m4a", ("-c:a", "aac", "-b:a", "160k")),
    "MP3": ("mp3", ("-c:a", "libmp3lame", "-b:a", "160k")),
    "FLAC": ("flac", ("-c:a", "flac")),
    "WAV": ("wav", ("-c:a", "pcm_s16le")),
}

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    name: str
    path: Path
    info: MediaInfo


Extract = Callable[[Source, Path], None]


def main(argv: Sequence[str]) -> None:
    """Measures every side on every source."""
    options = parser(NAME, __doc__)
    options.add_argument("--film", type=Path, help=f"a video with stereo sound; default: {FILM} of REELFLOW_TEST_MEDIA")
    options.add_argument("--minutes", type=float, default=10.0, help="length of the sources that are made")
    options.add_argument("--repeat", type=int, default=5, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    film = arguments.film or _test_film(options)
    with tempfile.TemporaryDirectory() as folder:
        sources = [described(film.name, film), *made(film, Path(folder), arguments.minutes * 60)]
        rows = [row for source in sources for row in measure(source, Path(folder), arguments.repeat)]
    plot = Plot("source", ["times real time"], "bar", by="extraction", label="seconds of sound per second")
    publish(
        arguments,
        NAME,
        __doc__,
        [Table("Extraction to 16 kHz mono FLAC", rows, plots=[plot])],
        packages=("librosa", "soundfile", "ffmpeg-python"),
    )


def measure(source: Source, folder: Path, repeat: int) -> list[Row]:
    """One row per side that can read the source."""
    out = folder / "out.flac"
    extracts: dict[str, Extract] = {OURS: reelflow, "ffmpeg command": ffmpeg_command, "PyAV": pyav}
    if readable(source.path):
        extracts["librosa"] = librosa_load
    sides = {
        name: Side(functools.partial(extract, source, out), functools.partial(out.unlink, missing_ok=True))
        for name, extract in extracts.items()
    }
    reelflow(source, out)
    wanted = read(out)
    times = alternate(sides, repeat, lambda name, _: check(name, read(out), wanted))
    seconds = source.info.duration_s
    return [
        {
            "source": f"{source.name}, {seconds:.0f} s",
            "extraction": name,
            "wall s": took.wall_s,
            "CPU s": took.cpu_s,
            "times real time": seconds / took.wall_s,
            "wall / ours": took.wall_ratio(times[OURS]),
            "CPU / ours": took.cpu_ratio(times[OURS]),
        }
        for name, took in times.items()
    ]


def check(name: str, found: Audio, wanted: Audio) -> None:
    """Raises AssertionError unless both are the same sound."""
    off = abs(found.size - wanted.size) / RATE
    assert off <= LENGTH_TOLERANCE_S, f"{name}: {off:.3f} s longer or shorter than ours"
    ratio_db = signal_to_difference(*aligned(wanted, found))
    assert ratio_db >= LEAST_RATIO_DB, f"{name}: another sound, the difference is only {ratio_db:.1f} dB below it"


def aligned(wanted: Audio, found: Audio) -> tuple[Audio, Audio]:
    """Both without what one begins with and the other does not: an encoder's delay, which ours takes away."""
    from scipy.signal import correlate

    most, length = round(LENGTH_TOLERANCE_S * RATE), min(30 * RATE, wanted.size, found.size)
    products = correlate(found[:length], wanted[:length], "full", "fft")
    middle = length - 1
    lag = int(np.argmax(products[middle - most : middle + most + 1])) - most
    return wanted[max(-lag, 0) :], found[max(lag, 0) :]


def signal_to_difference(wanted: Audio, found: Audio) -> float:
    """Power of the one over power of the difference, decibels, over the length of the shorter one."""
    length = min(wanted.size, found.size)
    power = float(np.mean(np.square(wanted[:length], dtype=np.float64)))
    error = float(np.mean(np.square(wanted[:length] - found[:length], dtype=np.float64)))
    return float("inf") if error == 0 else 10 * float(np.log10(max(power, 1e-30) / error))


def reelflow(source: Source, out: Path) -> None:
    from tasks.core.audio import extract_audio

    extract_audio(source.path, source.info, out)


def ffmpeg_command(source: Source, out: Path) -> None:
    from tasks.core import ffmpeg

    command = [ffmpeg.binary(), "-nostdin", "-v", "error", "-y", "-i", str(source.path), "-vn"]
    subprocess.run([*command, "-ac", "1", "-ar", str(RATE), "-sample_fmt", "s16", str(out)], check=True)


def pyav(source: Source, out: Path) -> None:
    import av
    import soundfile

    with av.open(str(source.path)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE)
        decoded: Any = container.decode(audio=0)
        parts = [part.to_ndarray()[0] for frame in decoded for part in resampler.resample(frame)]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    soundfile.write(out, np.concatenate(parts), RATE, subtype="PCM_16")


def librosa_load(source: Source, out: Path) -> None:
    import librosa
    import soundfile

    samples, _ = librosa.load(source.path, sr=RATE, mono=True)
    soundfile.write(out, samples, RATE, subtype="PCM_16")


def readable(path: Path) -> bool:
    """Does libsndfile read it?"""
    import soundfile

    try:
        soundfile.info(path)
    except soundfile.LibsndfileError:
        return False
    return True


def read(path: Path) -> Audio:
    """Samples of a track. Raises AssertionError unless it is 16-bit FLAC, 16 kHz, mono."""
    import soundfile

    with soundfile.SoundFile(path) as file:
        form = (file.format, file.subtype, file.samplerate, file.channels)
        assert form == ("FLAC", "PCM_16", RATE, 1), f"{path.name} is {form}"
        samples: Audio = file.read(dtype="float32")
        return samples


def described(name: str, path: Path) -> Source:
    from tasks.core.options import AudioOptions, LimitOptions
    from tasks.core.probe import probe

    return Source(name, path, probe(path, LimitOptions(), AudioOptions()))


def made(film: Path, folder: Path, seconds: float) -> list[Source]:
    """The film's sound, repeated to this length, in each of ENCODINGS."""
    from tasks.core import ffmpeg

    program = [ffmpeg.binary(), "-nostdin", "-v", "error", "-y"]
    sound = folder / "sound.wav"
    subprocess.run([*program, "-i", str(film), "-vn", "-c:a", "pcm_s16le", str(sound)], check=True)
    sources = []
    for name, (suffix, encoding) in ENCODINGS.items():
        path = folder / f"source.{suffix}"
        repeated = ["-stream_loop", "-1", "-i", str(sound), "-t", str(seconds)]
        subprocess.run([*program, *repeated, *encoding, str(path)], check=True)
        sources.append(described(name, path))
    return sources


def _test_film(options: argparse.ArgumentParser) -> Path:
    folder = os.environ.get("REELFLOW_TEST_MEDIA")
    if not folder:
        options.error("no test media: set REELFLOW_TEST_MEDIA or give --film FILE")
    return Path(folder) / FILM
