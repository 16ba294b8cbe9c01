"""Word errors and lost sentences with real weights, tiny.en: Reelflow, whisper.transcribe and faster-whisper.

Three corpora of real speech whose words are known: the referenced files of the test media, each alone; joins of all of
them in a drawn order with 0 to 2 s of digital silence between, where the place of each sentence is known; and half a
minute of two people on the telephone, with the times of its annotation. Then eight sounds in which nothing is said.

Each side runs in a process of its own for each corpus, with its weights loaded once, and with its own defaults:

- reelflow: `python -m flows analyze` over all files in one call, speech alone; greedy, temperatures when that fails.
- whisper, whisper_unconditioned: `whisper.transcribe` with and without `condition_on_previous_text`; greedy, the same.
- faster, faster_vad, faster_batched: faster-whisper's `WhisperModel.transcribe` without and with `vad_filter`, and its
  `BatchedInferencePipeline`; a beam of 5, five samples at each temperature. Weights converted, float32.

The language is given to all. Word errors are substitutions, insertions and deletions after whisper's normaliser for
English. A sentence of four or more words is lost where less than half of them stand in the transcript at its time,
within a second. Nothing is asserted: the verdict says which of the goals are met, on each corpus. Wall seconds are of
whole runs without loading weights, for Reelflow with the start of its server and workers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _media, _sides
from benchmarks._results import Plot, Row, Table, parser, publish
from benchmarks._sides import Found, Job, words
from benchmarks._speech_corpus import Recording, conversation, joins, referenced
from benchmarks._unspoken import unspoken
from benchmarks._word_errors import Score, score

NAME = "speech_accuracy"
OURS = "reelflow"
SIDES: dict[str, tuple[str, Mapping[str, Any]]] = {
    OURS: ("reelflow_command", {}),
    "whisper": ("whisper_transcribe", {}),
    "whisper_unconditioned": ("whisper_transcribe", {"condition_on_previous_text": False}),
    "faster": ("faster_transcribe", {}),
    "faster_vad": ("faster_transcribe", {"vad_filter": True}),
    "faster_batched": ("faster_batched", {}),
}
"""Names of the benchmark, and the side's file and arguments."""
FILES, JOINS, TALK = "files alone", "joins", "conversation"
MOST_WORSE = 3
"""Words by which Reelflow may be worse than the best of the others on one recording."""
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Heard:
    """One side on one corpus: a score for each recording, in order."""

    scores: Sequence[Score]
    seconds: float
    failed: int = 0

    @property
    def words(self) -> int:
        return sum(one.words for one in self.scores)

    @property
    def errors(self) -> int:
        return sum(one.errors for one in self.scores)

    @property
    def lost(self) -> set[tuple[int, str]]:
        """(number of the recording, name of the sentence)."""
        return {(number, name) for number, one in enumerate(self.scores) for name in one.lost}


def main(argv: Sequence[str]) -> None:
    """Runs all sides over all corpora and prints what each got wrong."""
    options = parser(NAME, __doc__)
    options.add_argument("--joins", type=int, default=20, help="joined recordings, about a minute each")
    options.add_argument("--seed", type=int, default=1, help="of orders, pauses and sounds")
    options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options.add_argument("--files-only", action="store_true", help="the files alone: no joins, conversation or sounds")
    options.add_argument("--noise-seconds", type=float, default=120.0, help="length of each sound; 0 for none")
    options.add_argument("--keep", type=Path, help="folder for what each side heard, as JSON")
    arguments = options.parse_args(argv)
    media, weights = _media.test_media(), _media.english_whisper()
    files = referenced(media)
    corpora: dict[str, list[Recording]] = {FILES: files}
    sounds: list[Recording] = []
    if not arguments.files_only:
        corpora |= {JOINS: joins(files, arguments.joins, arguments.seed), TALK: [conversation(media)]}
        if arguments.noise_seconds:
            sounds = unspoken(media, arguments.noise_seconds, arguments.seed)
    everything = corpora | ({"sounds": sounds} if sounds else {})
    found = {
        corpus: {side: run(side, corpus, recordings, weights, arguments.keep) for side in arguments.sides}
        for corpus, recordings in everything.items()
    }
    quiet = found.pop("sounds", {})
    heard = {corpus: scored(corpora[corpus], sides) for corpus, sides in found.items()}
    tables = [sums(heard), *apart(corpora, heard), between(corpora, heard)]
    if sounds:
        tables.append(said_in_nothing(sounds, quiet))
    if OURS in arguments.sides and len(arguments.sides) > 1:
        tables.append(verdict(heard, quiet))
    publish(arguments, NAME, __doc__, tables, weights=[weights], packages=["faster-whisper", "ctranslate2"])


def run(side: str, corpus: str, recordings: Sequence[Recording], weights: Path, keep: Path | None) -> Found:
    """What a side hears in one corpus."""
    name, arguments = SIDES[side]
    sources = [str(recording.path) for recording in recordings]
    with tempfile.TemporaryDirectory() as folder:
        job = Job(sources, "", str(weights), folder, arguments=arguments)
        found = _sides.run(name, job, timeout_s=TIMEOUT_S)
    print(f"{side}, {corpus}: {found.seconds:.1f} s", file=sys.stderr, flush=True)
    for source, reason in found.failures.items():
        print(f"{side} gave up {Path(source).name}: {reason}", file=sys.stderr, flush=True)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        texts = {recording.name: said for recording, said in zip(recordings, found.segments, strict=True)}
        path = keep / f"{side} {corpus}.json"
        path.write_text(json.dumps(texts, indent=1, ensure_ascii=False), encoding="utf-8")
    return found


def scored(recordings: Sequence[Recording], sides: Mapping[str, Found]) -> dict[str, Heard]:
    """Every side's scores on one corpus."""
    return {
        side: Heard(
            [score(one.sentences, said) for one, said in zip(recordings, found.segments, strict=True)],
            found.seconds,
            len(found.failures),
        )
        for side, found in sides.items()
    }


def sums(heard: Mapping[str, Mapping[str, Heard]]) -> Table:
    """A row for each corpus and side."""
    rows: list[Row] = [
        {
            "corpus": corpus,
            "side": side,
            "words": one.words,
            "errors": one.errors,
            "errors %": 100 * one.errors / one.words,
            "lost sentences": len(one.lost),
            "worst, words behind the best": max(behind(side, sides)),
            "recordings given up": one.failed,
            "wall s": one.seconds,
        }
        for corpus, sides in heard.items()
        for side, one in sides.items()
    ]
    note = (
        "The worst recording of each side is the one on which it has most errors more than the best of the others. "
        "What is given up counts as heard without a word."
    )
    return Table("Word errors", rows, note, [Plot("side", ["errors %"], "bar", by="corpus")])


def apart(corpora: Mapping[str, Sequence[Recording]], heard: Mapping[str, Mapping[str, Heard]]) -> list[Table]:
    """Errors of every side on each recording, a table for each corpus of several."""
    made = []
    for corpus, sides in heard.items():
        words_of = [one.words for one in next(iter(sides.values())).scores]
        rows: list[Row] = []
        for number, one in enumerate(corpora[corpus]):
            errors = {side: its.scores[number].errors for side, its in sides.items()}
            rows.append({"recording": one.name, "words": words_of[number], **errors})
        if len(rows) > 1:
            made.append(Table(f"Errors of each recording, {corpus}", rows))
    return made


def between(corpora: Mapping[str, Sequence[Recording]], heard: Mapping[str, Mapping[str, Heard]]) -> Table:
    """Sentences that one side loses and another finds."""
    rows: list[Row] = []
    for corpus, sides in heard.items():
        for number, name in sorted(set().union(*(one.lost for one in sides.values()))):
            losers = [side for side, one in sides.items() if (number, name) in one.lost]
            if len(losers) < len(sides):
                recording = corpora[corpus][number].name
                rows.append({"corpus": corpus, "recording": recording, "sentence": name, "lost by": ", ".join(losers)})
    note = "All other sides find them." if rows else "None."
    return Table("Sentences that one side loses and another finds", rows, note)


def said_in_nothing(sounds: Sequence[Recording], quiet: Mapping[str, Found]) -> Table:
    """Words that each side hears in each sound."""
    counts = invented(quiet)
    rows: list[Row] = [
        {"sound": sound.name} | {side: heard[number] for side, heard in counts.items()}
        for number, sound in enumerate(sounds)
    ]
    rows.append({"sound": "all"} | {side: sum(heard) for side, heard in counts.items()})
    took = ", ".join(f"{side} {found.seconds:.0f}" for side, found in quiet.items())
    failed = ", ".join(f"{side} {Path(source).name}" for side, found in quiet.items() for source in found.failures)
    return Table("Words where nothing is said", rows, f"Wall s: {took}." + (f" Given up: {failed}." if failed else ""))


def verdict(heard: Mapping[str, Mapping[str, Heard]], quiet: Mapping[str, Found]) -> Table:
    """Whether Reelflow reaches the goals, on each corpus."""
    goals: dict[str, dict[str, bool]] = {
        "errors at most those of the best of the others in sum": {},
        "no sentence lost that another finds": {},
        f"never more than {MOST_WORSE} words behind the best of the others on one recording": {},
    }
    for corpus, sides in heard.items():
        others = [one for side, one in sides.items() if side != OURS]
        reached = (
            sides[OURS].errors <= min(one.errors for one in others),
            not any(sides[OURS].lost - one.lost for one in others),
            max(behind(OURS, sides)) <= MOST_WORSE,
        )
        for goal, yes in zip(goals, reached, strict=True):
            goals[goal][corpus] = yes
    if quiet:
        goals["no word where nothing is said"] = {"sounds": not sum(invented(quiet)[OURS])}
    columns = [*heard, *(["sounds"] if quiet else [])]
    rows: list[Row] = [
        {"goal": goal} | {corpus: {True: "yes", False: "no", None: ""}[reached.get(corpus)] for corpus in columns}
        for goal, reached in goals.items()
    ]
    return Table("Verdict on Reelflow", rows)


def behind(side: str, sides: Mapping[str, Heard]) -> list[int]:
    """On each recording, errors of a side less those of the best of the others; negative where it is ahead."""
    others = [its.scores for name, its in sides.items() if name != side] or [sides[side].scores]
    return [
        mine.errors - min(scores[number].errors for scores in others) for number, mine in enumerate(sides[side].scores)
    ]


def invented(quiet: Mapping[str, Found]) -> dict[str, list[int]]:
    """Words of each side in each sound."""
    return {
        side: [len(words(" ".join(text for *_, text in said))) for said in found.segments]
        for side, found in quiet.items()
    }
