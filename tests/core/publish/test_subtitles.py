import html
import re
from itertools import pairwise

import pysubs2
import pytest

from tasks.core.publish.subtitles import LINE_CHARACTERS, cues, plain, srt, vtt, wrap
from tasks.core.schema import Result, Segment, Transcript, Word
from tests.core.publish.results import ATTACKS, empty, hostile, result, words

SPEECH = (
    "And so my fellow Americans ask not what your country can do for you ask what you can do for your country. " * 3
)


def said(*segments: Segment) -> Result:
    return result(transcript=Transcript(language="en", text="", segments=list(segments)))


def parse(text: str, kind: str) -> list[tuple[int, int, str]]:
    lines = [(line.start, line.end, line.plaintext) for line in pysubs2.SSAFile.from_string(text, kind)]
    return [(start, end, html.unescape(said) if kind == "vtt" else said) for start, end, said in lines]


@pytest.mark.parametrize(("write", "kind"), [(srt, "srt"), (vtt, "vtt")])
def test_parsing_back_gives_the_same_segments(write: object, kind: str) -> None:
    assert callable(write)
    made = result()
    wanted = [(round(s.start * 1000), round(s.end * 1000), s.text.strip()) for s in made.transcript.segments]
    assert parse(write(made), kind) == wanted


@pytest.mark.parametrize(("write", "kind"), [(srt, "srt"), (vtt, "vtt")])
def test_hostile_text_is_one_plain_cue_per_segment(write: object, kind: str) -> None:
    assert callable(write)
    text = write(hostile())
    assert text.count("-->") == len(ATTACKS)
    assert "{" not in text
    assert not re.search(r"<\s*[a-zA-Z/!]", text)
    assert "\x00" not in text
    back = parse(text, kind)
    assert [" ".join(line.split()) for _, _, line in back] == [plain(attack) for attack in ATTACKS]


def test_vtt_has_its_header_and_references() -> None:
    text = vtt(said(Segment(id=0, start=0, end=1, text="1 < 2 & 3")))
    assert text.startswith("WEBVTT\n")
    assert "1 &lt; 2 &amp; 3" in text


def test_ordinary_text_is_left_alone() -> None:
    line = "Well, 3 < 4 > 2: it's fine -- \u00fcber \u65e5\u672c & so on."
    assert plain(line) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"{\an8}up", "\uff5b\uff3can8\uff5dup"),
        ("a --> b", "a --\uff1e b"),
        ("<i>x</i>", "\uff1ci>x\uff1c/i>"),
        ("one\n\ntwo\x00\u2028three", "one two three"),
        (r"C:\New", "C:\uff3cNew"),
    ],
)
def test_what_a_player_would_act_on_becomes_lookalikes(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_long_timed_segments_become_cues_of_two_lines() -> None:
    timed = words(SPEECH, 2.0)
    segment = Segment(id=0, start=2.0, end=timed[-1].end, text=SPEECH, words=timed)
    made = list(cues(segment))
    assert len(made) > 3
    assert " ".join(text for _, _, text in made) == SPEECH.strip()
    starts = {word.start for word in timed}
    for start, end, text in made:
        assert start in starts
        assert start < end
        assert len(wrap(text)) <= 2
        assert all(len(line) <= LINE_CHARACTERS for line in wrap(text))
    assert all(first[1] <= second[0] for first, second in pairwise(made))
    assert len(parse(srt(said(segment)), "srt")) == len(made)


@pytest.mark.parametrize("timed", [None, words("quite other words", 0)])
def test_a_long_segment_without_timed_words_is_spread_over_its_time(timed: list[Word] | None) -> None:
    segment = Segment(id=0, start=3, end=23, text=SPEECH, words=timed)
    shown = parse(srt(said(segment)), "srt")
    assert len(shown) > 3
    assert (shown[0][0], shown[-1][1]) == (3000, 23_000)
    assert all(text.count("\n") < 2 and max(map(len, text.split("\n"))) <= LINE_CHARACTERS for _, _, text in shown)
    assert all(before[1] <= after[0] for before, after in pairwise(shown))
    rates = [len(text) / (end - start) for start, end, text in shown]
    assert max(rates) < 1.2 * min(rates)
    assert " ".join(text.replace("\n", " ") for _, _, text in shown) == SPEECH.strip()


def test_a_cue_stays_to_be_read_but_neither_long_after_the_speech_nor_into_the_next() -> None:
    quick = Segment(id=0, start=1.0, end=1.5, text="twenty-five characters...")
    near = Segment(id=1, start=1.55, end=1.7, text="twenty-five characters...")
    slow = Segment(id=2, start=4.0, end=9.0, text="short")
    shown = parse(srt(said(quick, near, slow)), "srt")
    assert [(start, end) for start, end, _ in shown] == [(1000, 1550), (1550, 1800), (4000, 9000)]


def test_segments_that_overlap_give_cues_that_do_not() -> None:
    shown = parse(
        srt(said(Segment(id=0, start=0, end=5, text="one"), Segment(id=1, start=4, end=6, text="two"))), "srt"
    )
    assert [(start, end) for start, end, _ in shown] == [(0, 4000), (4000, 6000)]


def test_text_without_spaces_is_cut_into_lines() -> None:
    text = "\u65e5\u672c\u8a9e" * 30
    timed = words(" ".join("\u65e5\u672c\u8a9e" for _ in range(30)), 0)
    segment = Segment(id=0, start=0, end=30, text=text, words=timed)
    assert "".join(part for _, _, part in cues(segment)) == text
    assert all(len(line) <= LINE_CHARACTERS for line in wrap(text))


def test_two_lines_are_balanced_and_the_last_is_never_a_bare_number() -> None:
    first, second = wrap("the quick brown fox jumps over the lazy dog again")
    assert abs(len(first) - len(second)) < 12
    year = "this sentence is almost as long as a line 1984"
    assert not wrap(year)[-1].isdigit()
    [(_, _, text)] = parse(srt(said(Segment(id=0, start=0, end=1, text=year))), "srt")
    assert text.replace("\n", " ") == year


def test_empty_segments_and_transcripts_make_no_cue() -> None:
    assert srt(empty()) == ""
    assert vtt(empty()).strip() == "WEBVTT"
    assert srt(said(Segment(id=0, start=0, end=1, text=" \n "))) == ""


def test_a_segment_without_length_is_still_shown_and_order_is_by_time() -> None:
    made = said(Segment(id=0, start=5, end=5, text="late"), Segment(id=1, start=1, end=2, text="early"))
    assert parse(srt(made), "srt") == [(1000, 2000, "early"), (5000, 5100, "late")]
