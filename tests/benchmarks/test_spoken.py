"""Media made of sentences say what they are said to say, for exactly as long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks._speech_corpus import RATE
from benchmarks._spoken import LEAD_S, STEP_S, TAIL_S, Spoken, best_voice, spoken

LENGTHS_S = (1.0, 2.0)


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoken:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path))
    sentences = [(np.full(round(RATE * length), 0.1 * length, np.float32), f"said {length:g}") for length in LENGTHS_S]
    return Spoken("bundled", tmp_path / "whisper.pt", sentences, 0.0)


def test_clips_are_sentences_in_turn_and_no_two_alike(voice: Spoken) -> None:
    paths, text = voice.clips(4)
    assert text == "said 1 said 2 said 1 said 2"
    assert [path.stem for path in paths] == ["00000", "00001", "00002", "00003"]
    lengths = [soundfile.info(path).duration for path in paths]
    silence = LEAD_S + TAIL_S
    assert lengths == pytest.approx([1 + silence, 2 + silence, 1 + silence + STEP_S, 2 + silence + STEP_S], abs=1e-3)


def test_a_recording_holds_all_of_its_clips(voice: Spoken) -> None:
    path, text = voice.recording(3)
    assert text == voice.clips(3)[1]
    parts = [soundfile.read(clip)[0] for clip in voice.clips(3)[0]]
    assert np.array_equal(soundfile.read(path)[0], np.concatenate(parts))


@pytest.mark.parametrize(("seconds", "text"), [(4.0, "said 1 said 2"), (5.6, "said 1 said 2 said 1"), (1.0, "")])
def test_a_track_is_filled_with_whole_sentences(voice: Spoken, seconds: float, text: str) -> None:
    path, said = voice.track(seconds)
    assert said == text
    sound = soundfile.read(path)[0]
    assert sound.size == seconds * RATE
    assert sum(sound > 0.05) == RATE * sum(int(word) for word in text.split() if word.isdigit())


def test_without_real_weights_the_bundled_voice_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("REELFLOW_MODELS_DIR", str(tmp_path))
    assert best_voice() == "bundled"
    with pytest.raises(SystemExit, match=r"REELFLOW_TEST_MEDIA|tiny\.en\.pt"):
        spoken("tiny.en")


def test_real_speech_is_taken_where_it_is(
    shared_media: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path))
    assert best_voice() == "tiny.en"
    real = spoken("tiny.en")
    assert real.whisper.read_bytes()[:1024] == (models_dir / "tiny.en.pt").read_bytes()[:1024]
    assert real.clips(1)[1].startswith("And so my fellow Americans")
    lengths = [
        soundfile.info(shared_media / "speech" / name).duration for name in ("jfk.flac", "1272-141231-0002.flac")
    ]
    assert [sound.size / RATE for sound, _ in real.sentences[:2]] == pytest.approx(lengths, abs=0.01)
