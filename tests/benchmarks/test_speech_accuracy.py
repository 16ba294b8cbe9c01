"""The corpora are what they say, the same every time; losses and goals are told from scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from benchmarks._sides import Found
from benchmarks._speech_corpus import RATE, Recording, conversation, joins, referenced
from benchmarks._unspoken import BEAT_S, LEVEL, SOUNDS, at_level, unspoken
from benchmarks._word_errors import Score
from benchmarks.speech_accuracy import Heard, apart, behind, between, said_in_nothing, sums, verdict

TEXTS = {"one.wav": "Drop the tube.", "two.wav": "Sunday is best.", "three.mp4": "Lay blue now."}


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sounds of different pitch and length with references, a film, and a conversation."""
    from tests.media import ffmpeg

    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "speech").mkdir()
    (tmp_path / "video").mkdir()
    for number, name in enumerate([*TEXTS, "sintel.mp4"], 1):
        folder = tmp_path / ("video" if name.endswith("mp4") else "speech")
        ffmpeg("-f", "lavfi", "-i", f"sine=f={300 * number}:r={RATE}:d={0.5 * number}", folder / name)
    (tmp_path / "speech" / "pyannote_sample.stm").write_text(
        "sample 1 Diane 6.68 7.16 Hello?\nsample 1 Sheila 7.634 8.155 Neither did I.\n", "utf-8"
    )
    (tmp_path / "ground_truth.json").write_text(json.dumps({"speech_text": TEXTS}), "utf-8")
    return tmp_path


def test_every_referenced_file_is_one_sentence(media: Path) -> None:
    files = referenced(media)
    assert [(one.path.name, one.sentences[0].text) for one in files] == list(TEXTS.items())
    assert [one.sentences[0].end for one in files][:2] == [0.5, 1.0]


def test_turns_of_a_conversation_have_the_times_of_its_annotation(media: Path) -> None:
    first, second = conversation(media).sentences
    assert (first.start, first.end, first.text) == (6.68, 7.16, "Hello?")
    assert second.text == "Neither did I."


def test_joins_hold_every_sentence_at_its_place_and_silence_between(media: Path) -> None:
    made = joins(referenced(media), 5, seed=1)
    orders = {tuple(part.name for part in one.sentences) for one in made}
    assert len(orders) > 1
    assert all(sorted(order) == ["one", "three", "two"] for order in orders)
    pauses = []
    for one in made:
        sound, rate = soundfile.read(one.path, dtype="float32")
        assert rate == RATE
        assert one.sentences[-1].end == sound.size / RATE
        for part in one.sentences:
            inside = sound[round(part.start * RATE) : round(part.end * RATE)]
            assert _pitch(inside) == pytest.approx(300 * (1 + ["one", "two", "three"].index(part.name)), abs=5)
        for before, after in zip(one.sentences, one.sentences[1:], strict=False):
            assert not sound[round(before.end * RATE) : round(after.start * RATE)].any()
            pauses.append(after.start - before.end)
    assert all(0 <= pause <= 2 for pause in pauses)
    assert max(pauses) > 1 > min(pauses)


def test_a_seed_gives_the_same_joins_and_fewer_are_the_first_of_them(media: Path) -> None:
    files = referenced(media)
    first = [(one.path.read_bytes(), one.sentences) for one in joins(files, 3, seed=1)]
    assert [(one.path.read_bytes(), one.sentences) for one in joins(files, 2, seed=1)] == first[:2]
    assert [one.path.read_bytes() for one in joins(files, 3, seed=2)] != [data for data, _ in first]


def test_sounds_in_which_nothing_is_said_have_their_length_and_are_the_same_every_time(media: Path) -> None:
    made = unspoken(media, 3.0, seed=1)
    before = [one.path.read_bytes() for one in made]
    assert [one.path.stem for one in made] == [*SOUNDS, "film_music"]
    assert not any(one.sentences for one in made)
    for one in made:
        sound, rate = soundfile.read(one.path)
        assert (sound.size, rate) == (3 * RATE, RATE)
        assert sound.any() == (one.name != "digital_silence")
    assert [one.path.read_bytes() for one in unspoken(media, 3.0, seed=1)] == before


def test_made_sounds_are_at_one_level() -> None:
    for name, make in SOUNDS.items():
        sound = at_level(make(10 * RATE, np.random.default_rng(1)))
        if name not in ("digital_silence", "applause"):  # the claps' peaks are cut off
            assert np.sqrt(np.mean(sound**2)) == pytest.approx(LEVEL, rel=0.01), name


@pytest.mark.parametrize(("name", "fall"), [("white_noise", 0), ("pink_noise", 3), ("brown_noise", 6)])
def test_noise_falls_by_its_decibels_an_octave(name: str, fall: int) -> None:
    sound = SOUNDS[name](60 * RATE, np.random.default_rng(1))
    power, frequency = np.abs(np.fft.rfft(sound)) ** 2, np.fft.rfftfreq(sound.size, 1 / RATE)

    def density(low: float) -> float:
        return float(power[(frequency >= low) & (frequency < 1.1 * low)].mean())

    assert 10 * np.log10(density(200) / density(1600)) == pytest.approx(3 * fall, abs=1)


def test_hum_has_its_lines_and_a_tune_its_notes() -> None:
    assert _pitch(SOUNDS["mains_hum"](10 * RATE, np.random.default_rng(1))) == pytest.approx(50, abs=0.2)
    notes = SOUNDS["tune"](10 * RATE, np.random.default_rng(1)).reshape(-1, round(BEAT_S * RATE))
    assert len({round(_pitch(note)) for note in notes}) > 1


def _pitch(sound: npt.NDArray[np.float32]) -> float:
    """Hertz of the strongest line."""
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * RATE / sound.size)


RECORDINGS = {"joins": [Recording(Path(f"join-{number:02d}.flac"), []) for number in range(2)]}
SILENT = Found(1.0, segments=[[], [(0.0, 1.0, "...")]])
NOISY = Found(1.0, segments=[[], [(0.0, 1.0, "Being......"), (1.0, 2.0, "Thank you.")]])


def side(*scores: tuple[int, list[str]]) -> Heard:
    return Heard([Score(100, errors, lost) for errors, lost in scores], 1.0)


def answers(ours: Heard, other: Heard, quiet: Found = SILENT) -> list[tuple[object, ...]]:
    rows = verdict({"joins": {"reelflow": ours, "whisper": other}}, {"reelflow": quiet, "whisper": SILENT}).rows
    return [tuple(row.values())[1:] for row in rows]


def test_a_side_is_behind_the_best_of_the_others_on_each_recording() -> None:
    sides = {"reelflow": side((5, []), (1, [])), "whisper": side((9, []), (0, [])), "faster": side((2, []), (7, []))}
    assert behind("reelflow", sides) == [3, 1]
    assert behind("whisper", sides) == [7, -1]
    assert behind("reelflow", {"reelflow": sides["reelflow"]}) == [0, 0]


@pytest.mark.parametrize(
    ("ours", "reached"),
    [
        (side((5, []), (5, [])), ["yes", "yes", "yes"]),
        (side((6, []), (5, [])), ["no", "yes", "yes"]),
        (side((5, ["jfk"]), (5, [])), ["yes", "no", "yes"]),
        (side((8, []), (0, [])), ["yes", "yes", "yes"]),
        (side((9, []), (0, [])), ["yes", "yes", "no"]),
        (side((5, []), (5, ["pure"])), ["yes", "yes", "yes"]),
    ],
)
def test_goals_are_told_one_by_one(ours: Heard, reached: list[str]) -> None:
    other = side((5, []), (5, ["pure"]))
    assert answers(ours, other) == [*((answer, "") for answer in reached), ("", "yes")]


def test_one_word_where_nothing_is_said_is_told() -> None:
    even = side((5, []), (5, []))
    assert answers(even, even, NOISY)[-1] == ("", "no")
    rows = said_in_nothing(RECORDINGS["joins"], {"reelflow": NOISY, "whisper": SILENT}).rows
    assert rows[1:] == [{"sound": name, "reelflow": 3, "whisper": 0} for name in ("join-01", "all")]


def test_a_sentence_that_all_lose_is_no_difference() -> None:
    sides = {"reelflow": side((5, ["jfk", "pure"]), (0, [])), "whisper": side((5, ["jfk"]), (0, []))}
    assert between(RECORDINGS, {"joins": sides}).rows == [
        {"corpus": "joins", "recording": "join-00", "sentence": "pure", "lost by": "reelflow"}
    ]


def test_sums_and_recordings_have_a_row_each() -> None:
    heard = {"joins": {"reelflow": side((5, ["jfk"]), (1, [])), "whisper": side((4, []), (3, []))}}
    first, second = sums(heard).rows
    assert (first["words"], first["errors"], first["errors %"], first["lost sentences"]) == (200, 6, 3.0, 1)
    assert [row["worst, words behind the best"] for row in (first, second)] == [1, 2]
    [table] = apart(RECORDINGS, heard)
    assert table.rows[1] == {"recording": "join-01", "words": 100, "reelflow": 1, "whisper": 3}
