"""Speech segmentation against human annotation: frame precision, recall, F1 and real-time factor of both engines.

Method: the two annotated excerpts of the test media (30 s each), as they are, in white noise, and over film sound
without annotated speech, both at 10 dB signal-to-noise ratio. A frame is 10 ms; overlapping speakers count once.
`boundaries` is the worse of the two outer errors on a clip whose speech is known to lie at 3.0 to 14.0 s.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tasks.core.options import SegmentOptions
from tasks.core.schema import Interval
from tasks.core.segments import SAMPLE_RATE, segment_speech

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


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table (markdown), or one JSON object per row; 1 when an engine breaks its contract."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks segmentation", description=__doc__)
    parser.add_argument("--media", type=Path, default=os.environ.get("REELFLOW_TEST_MEDIA"), help="test media folder")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    arguments = parser.parse_args(argv)
    if arguments.media is None or not arguments.media.is_dir():
        parser.error("no test media: set REELFLOW_TEST_MEDIA or give --media FOLDER")
    rows = [measure(engine, arguments.media) for engine in ENGINES]
    if arguments.json:
        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
    else:
        sys.stdout.write(table(rows))
    return 0


def measure(engine: str, media: Path) -> dict[str, Any]:
    """One engine with the default options: a dict of `{condition: {precision, recall, f1}}` and speed."""
    options = SegmentOptions.model_validate({"engine": engine})
    sources = [(read_audio(media / audio), read_rttm(media / rttm, name)) for audio, rttm, name in ANNOTATED]
    film = read_audio(media / FILM)
    scores: dict[str, dict[str, float]] = {}
    for condition in CONDITIONS:
        counts = np.zeros(3)
        for (audio, speech), (name, _, _) in zip(sources, ANNOTATED, strict=True):
            found = segment_speech(under(condition, audio, film), options)
            check(found, audio.size / SAMPLE_RATE)
            counts += (count := compare(found, speech, audio.size / SAMPLE_RATE))
            if condition == "clean":
                scores[Path(name).stem] = ratios(count)
        scores[condition] = ratios(counts)
    known = segment_speech(read_audio(media / KNOWN), options)
    boundaries = max(abs(known[0].start - KNOWN_SPEECH[0]), abs(known[-1].end - KNOWN_SPEECH[1])) if known else None
    long = np.resize(sources[1][0], SPEED_S * SAMPLE_RATE)
    segment_speech(long[: 10 * SAMPLE_RATE], options)
    started, started_cpu = time.perf_counter(), time.process_time()
    first = segment_speech(long, options)
    elapsed, elapsed_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    if first != segment_speech(long, options):
        raise AssertionError(f"{engine}: two runs over the same audio differ")
    return {
        "engine": engine,
        "scores": scores,
        "mean_f1": float(np.mean([scores[condition]["f1"] for condition in CONDITIONS])),
        "boundaries_s": boundaries,
        "real_time_factor": elapsed / SPEED_S,
        "cpu_factor": elapsed_cpu / SPEED_S,
    }


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
    if not ordered or min(edges, default=0.0) < 0:
        raise AssertionError(f"segments out of order or bounds: {edges}")


def compare(found: list[Interval], speech: list[Interval], duration_s: float) -> npt.NDArray[np.float64]:
    """Frames: (both, found, annotated)."""
    hypothesis, reference = frames(found, duration_s), frames(speech, duration_s)
    return np.array([(hypothesis & reference).sum(), hypothesis.sum(), reference.sum()], float)


def ratios(counts: npt.NDArray[np.float64]) -> dict[str, float]:
    both, found, annotated = counts
    precision, recall, f1 = both / max(found, 1), both / max(annotated, 1), 2 * both / max(found + annotated, 1)
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def frames(intervals: list[Interval], duration_s: float) -> npt.NDArray[np.bool_]:
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


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line per engine, precision / recall / F1 in each condition."""
    conditions = list(rows[0]["scores"])
    head = ["engine (P / R / F1)", *conditions, "mean F1", "boundaries", "real-time factor", "CPU s per audio s"]
    body = [head, ["---"] * len(head)]
    for row in rows:
        scores = [" / ".join(f"{value:.3f}" for value in row["scores"][condition].values()) for condition in conditions]
        boundaries = "no speech" if row["boundaries_s"] is None else f"{row['boundaries_s']:.2f} s"
        speeds = [f"{row['real_time_factor']:.4f}", f"{row['cpu_factor']:.4f}"]
        body.append([row["engine"], *scores, f"{row['mean_f1']:.3f}", boundaries, *speeds])
    return "".join("| " + " | ".join(cells) + " |\n" for cells in body)


if __name__ == "__main__":
    raise SystemExit(main())
