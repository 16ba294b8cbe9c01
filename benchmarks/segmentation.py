"""Speech segmentation against human annotation: frame precision, recall, F1 and speed of both engines.

The two annotated excerpts of the test media (30 s each), as they are, in white noise, and over film sound without
annotated speech, both at 10 dB signal-to-noise ratio. A frame is 10 ms; overlapping speakers count once. Precision is
the share of found frames that are annotated, recall the share of annotated frames that are found. `boundaries s` is
the worse of the two outer errors on a clip whose speech is known to lie at 3.0 to 14.0 s. Speed is that on one
excerpt repeated to 10 minutes, the engines in turn. Segments must be in order, within the audio and the same in every
run.

The defaults of both engines were tuned on these same files: there is no held-out set.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from benchmarks._results import Plot, Row, Table, parser, publish
from benchmarks._turns import Side, alternate
from tasks.core.options import SegmentOptions
from tasks.core.schema import Interval
from tasks.core.segments import SAMPLE_RATE, segment_speech

NAME = "segmentation"
FRAMES_PER_S = 100
NOISE_DB = 10.0
SPEED_S = 600
"""Length of the audio that is timed, made by repeating one excerpt."""
ANNOTATED = (
    ("speech/pyannote_sample.wav", "speech/pyannote_sample.rttm", "sample"),
    ("speech/ami_dev00.wav", "speech/ami_dev.rttm", "dev00"),
)
FILM = "video/sintel.mp4"
KNOWN, KNOWN_SPEECH = "video/built_jfk_over_bangkok.mp4", (3.0, 14.0)
CONDITIONS = ("clean", "white noise", "film sound")
ENGINES = ("librosa", "silero")

Audio = npt.NDArray[np.float32]


def main(argv: Sequence[str]) -> None:
    """Measures both engines. Raises AssertionError when one breaks its contract."""
    options = parser(NAME, __doc__)
    options.add_argument("--media", type=Path, default=os.environ.get("REELFLOW_TEST_MEDIA"), help="test media folder")
    options.add_argument("--repeat", type=int, default=3, help="timed rounds; the median is shown")
    arguments = options.parse_args(argv)
    if arguments.media is None or not arguments.media.is_dir():
        options.error("no test media: set REELFLOW_TEST_MEDIA or give --media FOLDER")
    scores = [row for engine in ENGINES for row in quality(engine, arguments.media)]
    publish(
        arguments,
        NAME,
        __doc__,
        [
            Table("Found speech", scores, plots=[Plot("sound", ["F1"], "bar", by="engine")]),
            Table("Engines", engines(arguments.media, scores, arguments.repeat)),
        ],
        packages=("librosa", "silero-vad"),
    )


def quality(engine: str, media: Path) -> list[Row]:
    """One engine with the default options: a row for each excerpt, and for both in each condition."""
    options = SegmentOptions.model_validate({"engine": engine})
    film = read_audio(media / FILM)
    excerpts: list[Row] = []
    conditions: list[Row] = []
    for condition in CONDITIONS:
        counts = np.zeros(3)
        for name, annotation, file_id in ANNOTATED:
            audio, speech = read_audio(media / name), read_rttm(media / annotation, file_id)
            found = segment_speech(under(condition, audio, film), options)
            check(found, audio.size / SAMPLE_RATE)
            counts += (count := compare(found, speech, audio.size / SAMPLE_RATE))
            if condition == "clean":
                excerpts.append({"engine": engine, "sound": Path(name).stem, **ratios(count)})
        conditions.append({"engine": engine, "sound": condition, **ratios(counts)})
    return [*excerpts, *conditions]


def engines(media: Path, scores: Sequence[Row], repeat: int) -> list[Row]:
    """A row per engine: mean F1 over the conditions, error at the edges of known speech, speed."""
    options = {engine: SegmentOptions.model_validate({"engine": engine}) for engine in ENGINES}
    long = np.resize(read_audio(media / ANNOTATED[1][0]), SPEED_S * SAMPLE_RATE)
    expected = {engine: segment_speech(long, options[engine]) for engine in ENGINES}

    def same(engine: str, found: list[Interval]) -> None:
        assert found == expected[engine], f"{engine}: two runs over the same audio differ"

    sides = {engine: Side(functools.partial(segment_speech, long, options[engine])) for engine in ENGINES}
    times = alternate(sides, repeat, same)
    return [
        {
            "engine": engine,
            "mean F1": mean_f1(engine, scores),
            "boundaries s": boundary_error(segment_speech(read_audio(media / KNOWN), options[engine])),
            "wall s per audio s": took.wall_s / SPEED_S,
            "CPU s per audio s": took.cpu_s / SPEED_S,
        }
        for engine, took in times.items()
    ]


def mean_f1(engine: str, scores: Sequence[Row]) -> float:
    """Over the conditions, each of which counts once."""
    return float(
        np.mean([float(row["F1"] or 0) for row in scores if row["engine"] == engine and row["sound"] in CONDITIONS])
    )


def boundary_error(found: list[Interval]) -> float | None:
    """The worse of the errors at the start and the end of the known speech, seconds; None where none was found."""
    if not found:
        return None
    return max(abs(found[0].start - KNOWN_SPEECH[0]), abs(found[-1].end - KNOWN_SPEECH[1]))


def under(condition: str, audio: Audio, film: Audio) -> Audio:
    """The audio as it is, or with noise NOISE_DB below its mean power."""
    if condition == "clean":
        return audio
    if condition == "white noise":
        noise = np.random.default_rng(0).standard_normal(audio.size).astype(np.float32)
    else:
        noise = np.resize(film, audio.size)
    gain = np.sqrt(np.mean(audio**2) / np.mean(noise**2) / 10 ** (NOISE_DB / 10))
    mixed: Audio = (audio + gain * noise).astype(np.float32)
    return mixed


def check(found: list[Interval], duration_s: float) -> None:
    """Raise AssertionError unless the segments are sorted, disjoint, of positive length and within the audio."""
    edges = [edge for segment in found for edge in (segment.start, segment.end)]
    ordered = all(earlier < later for earlier, later in itertools.pairwise([-1.0, *edges, duration_s + 1e-3]))
    assert ordered, f"segments out of order or bounds: {edges}"
    assert min(edges, default=0.0) >= 0, f"segments before the start: {edges}"


def compare(found: list[Interval], speech: list[Interval], duration_s: float) -> npt.NDArray[np.float64]:
    """Frames: (both, found, annotated)."""
    hypothesis, reference = frames(found, duration_s), frames(speech, duration_s)
    return np.array([(hypothesis & reference).sum(), hypothesis.sum(), reference.sum()], float)


def ratios(counts: npt.NDArray[np.float64]) -> dict[str, float]:
    """Precision, recall and F1 of what `compare` counted."""
    both, found, annotated = counts
    precision, recall, f1 = both / max(found, 1), both / max(annotated, 1), 2 * both / max(found + annotated, 1)
    return {"precision": float(precision), "recall": float(recall), "F1": float(f1)}


def frames(intervals: list[Interval], duration_s: float) -> npt.NDArray[np.bool_]:
    """One flag per frame: does it lie in one of the intervals?"""
    marked = np.zeros(round(duration_s * FRAMES_PER_S), bool)
    for interval in intervals:
        marked[round(interval.start * FRAMES_PER_S) : round(interval.end * FRAMES_PER_S)] = True
    return marked


def read_rttm(path: Path, file_id: str) -> list[Interval]:
    """Speech of one file of an RTTM annotation. Raises ValueError when the annotation does not name the file."""
    turns = [line.split() for line in path.read_text().splitlines()]
    spoken = [(float(turn[3]), float(turn[4])) for turn in turns if turn[:1] == ["SPEAKER"] and turn[1] == file_id]
    if not spoken:
        raise ValueError(f"{path} holds no speech of the file {file_id}")
    return [Interval(start=start, end=start + duration) for start, duration in spoken]


def read_audio(path: Path) -> Audio:
    """16 kHz mono float32."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        decoded = (piece for frame in [*container.decode(audio=0), None] for piece in resampler.resample(frame))
        return np.concatenate([piece.to_ndarray()[0] for piece in decoded])
