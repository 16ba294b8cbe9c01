"""Recordings of which is known what is said in them, and when: the shared speech alone, and joined with pauses."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks._media import cache_folder, read_samples
from benchmarks._word_errors import Sentence

RATE = 16000
PAUSE_S = (0.0, 2.0)
"""Digital silence between two sentences of a join."""
FOLDERS = ("speech", "video")
CONVERSATION = "pyannote_sample"


@dataclass(frozen=True)
class Recording:
    """A file and the sentences in it, in order."""

    path: Path
    sentences: Sequence[Sentence]

    @property
    def name(self) -> str:
        return self.path.stem


def referenced(media: Path) -> list[Recording]:
    """The files of the test media that `speech_text` of their ground truth has a reference for, each one sentence."""
    texts: dict[str, str] = json.loads((media / "ground_truth.json").read_text(encoding="utf-8"))["speech_text"]
    found = {path.name: path for folder in FOLDERS for path in sorted((media / folder).iterdir())}
    made = []
    for name, text in texts.items():
        length = read_samples(found[name]).size / RATE
        made.append(Recording(found[name], [Sentence(Path(name).stem, 0.0, length, text)]))
    return made


def conversation(media: Path) -> Recording:
    """Two people on the telephone, by its STM annotation: half a minute of thirteen turns without pauses."""
    path = media / "speech" / f"{CONVERSATION}.wav"
    turns = [line.split(maxsplit=5) for line in path.with_suffix(".stm").read_text(encoding="utf-8").splitlines()]
    said = [Sentence(f"turn at {float(start):.1f} s", float(start), float(end), text) for *_, start, end, text in turns]
    return Recording(path, said)


def joins(parts: Sequence[Recording], count: int, seed: int) -> list[Recording]:
    """`count` FLAC files, 16 kHz mono: all sentences in a drawn order each, with pauses; same seed, same bytes."""
    folder = cache_folder() / f"speech-joins-{seed}"
    folder.mkdir(exist_ok=True)
    choose, made = random.Random(seed), []
    samples = {part.name: read_samples(part.path) for part in parts}
    for number in range(count):
        order = list(parts)
        choose.shuffle(order)
        pieces: list[Any] = []
        sentences: list[Sentence] = []
        at = 0
        for part in order:
            if pieces:
                pieces.append(np.zeros(round(RATE * choose.uniform(*PAUSE_S)), np.float32))
                at += pieces[-1].size
            pieces.append(samples[part.name])
            end = at + pieces[-1].size
            sentences.append(Sentence(part.name, at / RATE, end / RATE, part.sentences[0].text))
            at = end
        path = folder / f"join-{number:02d}.flac"
        soundfile.write(path, np.concatenate(pieces), RATE, subtype="PCM_16")
        made.append(Recording(path, sentences))
    return made
