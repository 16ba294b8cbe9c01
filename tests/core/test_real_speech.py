"""Recordings that real Whisper once got wrong, from file to transcript, with OpenAI's own tiny.en."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core import windows
from tasks.core.audio import extract_audio, load_audio
from tasks.core.options import AudioOptions, LimitOptions, SegmentOptions, TranscriptOptions
from tasks.core.probe import probe
from tasks.core.publish import assemble
from tasks.core.schema import HeardWindow, Interval, Transcript
from tasks.core.segments import Speech, find_speech

JFK = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
S3, S4 = "at that high level the air is pure", "a thin stripe runs down the middle"
S5 = "sunday is the best part of the week"
RATE = 16_000

Sound = npt.NDArray[np.float32]
Listen = Callable[..., tuple[Transcript, Speech]]


@pytest.fixture(scope="module")
def listen(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Listen:
    """`listen(path_or_samples, words=True)`: the transcript of a recording, and where its speech is."""
    import torch

    from tasks.core.models import whisper

    torch.set_num_threads(1)
    model = whisper.load(models_dir / "tiny.en.pt", "cpu", "float32")

    def hear(source: Path | Sound, channel: Any = "auto", **changes: Any) -> tuple[Transcript, Speech]:
        options = TranscriptOptions.model_validate({"language": "en"} | changes)
        heard_on = []
        if isinstance(source, Path):
            track = tmp_path_factory.mktemp("track") / "audio.flac"
            info = probe(source, LimitOptions(), AudioOptions())
            heard_on = extract_audio(source, info, track, channel).channels
            source = load_audio(track)
        speech = find_speech(source, SegmentOptions())
        planned = windows.pack_windows(speech.segments, speech.pauses, options.window_s, source.size / RATE)
        batches = []
        for batch in windows.batch_windows(planned, options.batch_size):
            audio = [windows.window_audio(source, window) for window in batch]
            batches.append(whisper.transcribe(model, batch, audio, options, options.language, speech))
        return assemble.transcript(batches, "en", words=options.words, channels=heard_on), speech

    return hear


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))


def loaded(path: Path) -> Sound:
    import av

    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [p.to_ndarray()[0] for f in [*container.decode(audio=0), None] for p in resampler.resample(f)]
    return np.concatenate(parts)


def test_speech_in_another_language_fails_no_recording(listen: Listen, shared_cases: Path) -> None:
    said, _ = listen(shared_cases / "nan_fallback.flac")
    assert any(segment.unsure for segment in said.segments) or said.gaps
    assert all(np.isfinite([s.avg_logprob, s.no_speech_prob]).all() for s in said.segments)
    json.loads(said.model_dump_json(), parse_constant=lambda _: pytest.fail("no JSON"))


def test_a_second_sentence_in_a_window_is_heard(listen: Listen, shared_cases: Path) -> None:
    said, _ = listen(shared_cases / "lost_sentence.flac")
    assert words(said.text) == f"we are sure that one war is enough {JFK}"
    assert said.gaps == []


@pytest.mark.parametrize(
    ("name", "channel", "text"),
    [
        ("antiphase", "left", JFK),
        ("broken_right_s", "left", "and so my fellow americans ask"),
        ("lfe_only", "4", JFK),
    ],
)
def test_speech_that_the_mix_loses_is_heard_on_its_channel(
    listen: Listen, shared_cases: Path, name: str, channel: str, text: str
) -> None:
    said, _ = listen(shared_cases / f"{name}.flac")
    assert words(said.text).startswith(text)
    assert {heard.channel for heard in said.channels} == {channel}
    mixed, _ = listen(shared_cases / f"{name}.flac", "mix")
    assert (mixed.text, mixed.channels[0].channel) == ("", "mix")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("concat_fmt.mp3", f"{S3} {S4}"),
        ("joined.mp4", f"{S3} {S4}"),
        ("tv_stereo_switch.ts", f"{S3} {S4}"),
        ("fmt_adts.aac", f"{S3} {S4}"),
        ("concat.flac", f"{S3} {S4}"),
        ("restart_talk.ts", f"{S3} {S5}"),
        ("chained.opus", f"{S3} {S4} {S5}"),
        ("vbr_noxing_loud_first.mp3", JFK),
        ("stream_wav.wav", JFK),
        ("audio_outlasts.mp4", S3),
    ],
)
def test_every_sentence_of_every_recording_in_a_file_is_heard(
    listen: Listen, shared_cases: Path, name: str, text: str
) -> None:
    said, _ = listen(shared_cases / name)
    assert (words(said.text), said.gaps) == (text, [])


def test_quiet_speech_is_heard(listen: Listen, shared_cases: Path) -> None:
    said, _ = listen(shared_cases / "quiet45_s.flac")
    assert words(said.text).startswith("and so my fellow americans ask not")


def test_a_quiet_sentence_between_loud_ones_is_heard(listen: Listen, shared_media: Path) -> None:
    loud, quiet = (loaded(shared_media / f"speech/sb_spk1_snt{number}.wav") for number in (3, 4))
    pause = np.zeros(RATE, np.float32)
    said, _ = listen(np.concatenate([4 * loud, pause, 0.03 * quiet, pause, 4 * loud]))
    assert words(said.text) == f"{S3} {S4} {S3}"


def test_words_and_cues_end_with_the_speech(listen: Listen, shared_cases: Path) -> None:
    said, speech = listen(shared_cases / "pause6.flac", words=True)
    assert words(said.text) == f"{S3} {S4}"
    timed = [word for segment in said.segments for word in segment.words or []]
    assert all(word.end > word.start for word in timed)
    assert all(before.end <= after.start for before, after in pairwise(timed))
    assert timed[7].end <= 2.8  # "pure." ends where six seconds of digital silence begin
    for start, end in [(part.start, part.end) for part in timed] + [(part.start, part.end) for part in said.segments]:
        assert any(s.start - 2e-3 <= start and end <= s.end + 2e-3 for s in speech.segments)


def test_speech_without_a_pause_is_joined_on_its_words(listen: Listen, shared_media: Path, models_dir: Path) -> None:
    """jfk's pauses are filled, so that nothing but a shared stretch can keep the words at the edges whole."""
    path = shared_media / "speech/jfk.flac"
    found = find_speech(loaded(path), SegmentOptions())
    text = words(listen(path)[0].text)
    unbroken = Speech([Interval(start=0, end=11)], [], found.voice)
    planned = windows.pack_windows(unbroken.segments, unbroken.pauses, 8, 11)
    assert [window.shared_start_s > 0 for window in planned] == [False, True]
    assert words(joined(path, planned, unbroken, models_dir)) == text == JFK


def joined(path: Path, planned: list[Any], speech: Speech, models_dir: Path) -> str:
    import torch

    from tasks.core.models import whisper

    torch.set_num_threads(1)
    model = whisper.load(models_dir / "tiny.en.pt", "cpu", "float32")
    audio = [windows.window_audio(loaded(path), window) for window in planned]
    heard: list[HeardWindow] = whisper.transcribe(model, planned, audio, TranscriptOptions(language="en"), "en", speech)
    return assemble.transcript([heard], "en").text


def test_a_prompt_spells_names(listen: Listen, shared_media: Path) -> None:
    path = shared_media / "speech/sb_spk1_snt5.wav"
    assert "Sunday" in listen(path)[0].text
    assert "sunday" in listen(path, prompt="monday, tuesday, friday, saturday, sunday, all in lower case")[0].text


@pytest.mark.parametrize("sound", ["silence", "white", "hum", "tune"])
def test_nothing_is_heard_where_nothing_is_said(listen: Listen, sound: str) -> None:
    rng, time = np.random.default_rng(0), np.arange(20 * RATE) / RATE
    notes = rng.choice([262, 294, 330, 349, 392, 440, 494, 523], 60).repeat(RATE // 3)
    sounds = {
        "silence": np.zeros(time.size),
        "white": 0.1 * rng.standard_normal(time.size),
        "hum": 0.2 * sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 8)),
        "tune": 0.3 * np.sin(2 * np.pi * np.cumsum(np.resize(notes, time.size)) / RATE) * np.exp(-3 * (time % (1 / 3))),
    }
    said, _ = listen(np.float32(sounds[sound]))
    assert said.text == ""
