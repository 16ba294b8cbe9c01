"""Both engines behind `segment_speech`, and the rules that turn frames into segments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.segmentation import compare, ratios, read_audio, read_rttm
from tasks.core.options import SegmentOptions
from tasks.core.segments import SAMPLE_RATE, Activity, join_frames, segment_speech

ENGINES = ["librosa", "silero"]
PLAIN = SegmentOptions(min_speech_s=0.1, min_silence_s=0.1, pad_s=0.05)


def options(engine: str) -> SegmentOptions:
    return SegmentOptions.model_validate({"engine": engine})


def frames(pattern: str) -> Activity:
    """'..##.' to 100 ms frames."""
    return Activity(np.array([mark == "#" for mark in pattern]), 0.1)


def joined(pattern: str, changes: SegmentOptions, duration_s: float | None = None) -> list[tuple[float, float]]:
    found = join_frames(frames(pattern), duration_s or len(pattern) / 10, changes)
    return [(segment.start, segment.end) for segment in found]


def test_pauses_shorter_than_the_limit_do_not_end_a_segment() -> None:
    short, long = PLAIN.model_copy(update={"min_silence_s": 0.15}), PLAIN.model_copy(update={"min_silence_s": 0.25})
    assert joined(".##..##.", short) == [(0.05, 0.35), (0.45, 0.75)]
    assert joined(".##..##.", long) == [(0.05, 0.75)]


def test_short_speech_is_dropped_after_pauses_are_closed_and_before_padding() -> None:
    rules = SegmentOptions(min_speech_s=0.25, min_silence_s=0.15, pad_s=0.2)
    assert joined("...##....", rules) == []
    assert joined("...##.#..", rules) == [(0.1, 0.9)]


def test_padding_stays_within_the_audio_and_joins_what_it_makes_touch() -> None:
    rules = SegmentOptions(min_speech_s=0.05, min_silence_s=0.1, pad_s=0.25)
    assert joined("##......##", rules, 0.97) == [(0.0, 0.45), (0.55, 0.97)]
    assert joined("##....##", rules) == [(0.0, 0.8)]
    assert joined("##......##", rules) == [(0.0, 0.45), (0.55, 1.0)]


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_and_steady_noise_hold_no_speech(engine: str) -> None:
    noise = np.random.default_rng(0).standard_normal(12 * SAMPLE_RATE).astype(np.float32)
    for audio in (np.zeros(12 * SAMPLE_RATE, np.float32), 0.05 * noise, 1e-4 * noise, noise[:0], noise[:100]):
        assert segment_speech(audio, options(engine)) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loud_bang_and_bad_samples_do_no_harm(engine: str) -> None:
    audio = np.zeros(5 * SAMPLE_RATE, np.float32)
    audio[40_000:40_400] = 1.0
    audio[60_000] = np.nan
    audio[60_001] = np.inf
    assert segment_speech(audio, options(engine)) == []


def test_stereo_is_refused() -> None:
    with pytest.raises(ValueError, match="mono"):
        segment_speech(np.zeros((2, 100), np.float32), SegmentOptions())


@pytest.mark.parametrize("engine", ENGINES)
def test_importing_and_segmenting_needs_no_torch(engine: str) -> None:
    code = (
        "import sys, numpy, tasks.core.segments as s; from tasks.core.options import SegmentOptions as O;"
        "light = not {'torch', 'librosa'} & set(sys.modules);"
        f"s.segment_speech(numpy.zeros(16000, 'f4'), O(engine='{engine}'));"
        "sys.exit(not light or 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.fixture(scope="module")
def known_speech(shared_media: Path) -> npt.NDArray[np.float32]:
    """Speech from 3.0 to 14.0 s of 18.5 s, digital silence around it."""
    return read_audio(shared_media / "video/built_jfk_over_bangkok.mp4")


@pytest.mark.parametrize("engine", ENGINES)
def test_known_speech_is_found_within_half_a_second(engine: str, known_speech: npt.NDArray[np.float32]) -> None:
    found = segment_speech(known_speech, options(engine))
    assert abs(found[0].start - 3.0) < 0.5
    assert abs(found[-1].end - 14.0) < 0.5
    edges = [edge for segment in found for edge in (segment.start, segment.end)]
    assert edges == sorted(set(edges))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_memory_map_gives_the_same(engine: str, known_speech: npt.NDArray[np.float32], tmp_path: Path) -> None:
    path = tmp_path / "audio.npy"
    np.save(path, known_speech)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert segment_speech(mapped, options(engine)) == segment_speech(known_speech, options(engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "file_id"), [("pyannote_sample", "sample"), ("ami_dev", "dev00")])
def test_frame_f1_against_annotation(engine: str, name: str, file_id: str, shared_media: Path) -> None:
    folder = shared_media / "speech"
    audio = read_audio(folder / ("ami_dev00.wav" if name == "ami_dev" else f"{name}.wav"))
    speech = read_rttm(folder / f"{name}.rttm", file_id)
    found = segment_speech(audio, options(engine))
    assert ratios(compare(found, speech, audio.size / SAMPLE_RATE))["F1"] > (0.97 if file_id == "sample" else 0.92)


@pytest.mark.parametrize("engine", ENGINES)
def test_short_sentences_on_video_give_one_segment(engine: str, shared_media: Path) -> None:
    paths = sorted((shared_media / "video").glob("grid_*.mpg"))
    assert paths
    for path in paths:
        found = segment_speech(read_audio(path), options(engine))
        assert len(found) == 1
        assert 1.0 < found[0].duration_s < 3.0
