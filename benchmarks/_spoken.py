"""Speech to make benchmarks' media of: sentences of which it is known what is said, with the weights that hear them.

`tiny.en` is real speech, the referenced sentences of the test media, and OpenAI's weights. `bundled` is the bundled
sample's, spoken by a machine, and the bundled weights with added layers that change nothing: answers without an error
at the cost of Whisper tiny, where there are no real weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from benchmarks import _media
from benchmarks._media import cache_folder, read_samples
from benchmarks._speech_corpus import RATE, referenced
from tasks.core.models import bundled

Voice = Literal["tiny.en", "bundled"]
VOICES: tuple[Voice, ...] = get_args(Voice)
LEAD_S, TAIL_S, STEP_S = 0.2, 0.3, 0.007
"""Silence before and after each sentence; before it STEP_S more in every round, so that no two files are alike."""


STUTTERS = {"transcript.compression_ratio": "10"}
"""Eight sentences again and again within a window of 30 s would pass for a decoder that stutters."""


@dataclass(frozen=True)
class Spoken:
    """Sentences as (float32 samples at 16 kHz, text), taken in turn."""

    voice: Voice
    whisper: Path
    sentences: Sequence[tuple[Any, str]] = field(repr=False)
    wrong: float
    """Share of the words that any side may get wrong."""
    reelflow: Mapping[str, str] = field(default_factory=dict)
    """Options that Reelflow needs for them."""

    def clips(self, count: int) -> tuple[list[Path], str]:
        """`count` FLAC files of one sentence each, numbered, in a folder of their own; and what they say in order."""
        folder = self._folder() / f"clips-{count}"
        folder.mkdir(exist_ok=True)
        made = []
        for number in range(count):
            made.append(folder / f"{number:05d}.flac")
            soundfile.write(made[-1], self._padded(number), RATE, subtype="PCM_16")
        return made, self._text(count)

    def recording(self, count: int) -> tuple[Path, str]:
        """The clips of `clips` one after another in one FLAC file."""
        made = self._folder() / f"recording-{count}.flac"
        soundfile.write(made, np.concatenate(list(map(self._padded, range(count)))), RATE, subtype="PCM_16")
        return made, self._text(count)

    def track(self, seconds: float) -> tuple[Path, str]:
        """A FLAC file of exactly so many seconds: as many sentences as fit, then silence."""
        pieces: list[Any] = []
        left = round(seconds * RATE)
        while (piece := self._padded(len(pieces))).size <= left:
            pieces.append(piece)
            left -= piece.size
        made = self._folder() / f"track-{seconds:g}.flac"
        soundfile.write(made, np.concatenate([*pieces, np.zeros(left, np.float32)]), RATE, subtype="PCM_16")
        return made, self._text(len(pieces))

    def _padded(self, number: int) -> Any:
        rounds, place = divmod(number, len(self.sentences))
        lead, tail = (
            np.zeros(round(RATE * (LEAD_S + STEP_S * rounds)), np.float32),
            np.zeros(round(RATE * TAIL_S), np.float32),
        )
        return np.concatenate([lead, self.sentences[place][0], tail])

    def _text(self, count: int) -> str:
        return " ".join(self.sentences[number % len(self.sentences)][1] for number in range(count))

    def _folder(self) -> Path:
        folder = cache_folder() / f"speech-{self.voice}"
        folder.mkdir(exist_ok=True)
        return folder


def spoken(voice: Voice) -> Spoken:
    """The sentences of a voice. Raises SystemExit with what to set where its media or weights are not here."""
    if voice == "bundled":
        return Spoken(voice, _media.deep_whisper(), _bundled(), wrong=0.0, reelflow=STUTTERS)
    files = referenced(_media.test_media())
    return Spoken(
        voice, _media.english_whisper(), [(read_samples(one.path), one.sentences[0].text) for one in files], wrong=0.25
    )


def best_voice() -> Voice:
    """Real speech where it can be had here."""
    try:
        _media.test_media()
        _media.english_whisper()
    except SystemExit:
        return "bundled"
    return "tiny.en"


def _bundled() -> list[tuple[Any, str]]:
    samples = read_samples(bundled.SAMPLE_CLIP)
    parts = json.loads(bundled.SAMPLE_TRUTH.read_text(encoding="utf-8"))["speech"]
    return [(samples[round(RATE * part["start"]) : round(RATE * part["end"])], part["text"]) for part in parts]
