"""What a reader must know of a transcript before believing it."""

from __future__ import annotations

import pytest

from tasks.core.schema import ModelInfo, Segment, Transcript, TranscriptGap
from tasks.stages.publish import speech_notices

REAL = {"transcript": ModelInfo(name="tiny.en", digest="00")}


def said(*segments: Segment, checked: bool = True, gaps: tuple[TranscriptGap, ...] = ()) -> Transcript:
    return Transcript(language="en", language_checked=checked, segments=list(segments), gaps=list(gaps))


def segment(start: float, end: float, *, unsure: bool = False) -> Segment:
    return Segment(id=0, start=start, end=end, text="words", unsure=unsure)


def test_a_language_that_was_not_checked_is_said() -> None:
    [notice] = speech_notices(said(segment(0, 5), checked=False), REAL)
    assert "not checked: tiny.en knows English only" in notice
    assert speech_notices(said(segment(0, 5)), REAL) == []


@pytest.mark.parametrize(
    ("transcript", "unknown"),
    [
        (said(segment(0, 2), segment(2, 6, unsure=True)), True),
        (said(segment(0, 4), segment(4, 6, unsure=True)), False),
        (said(segment(0, 2), gaps=(TranscriptGap(start=2, end=6, reason="unlikely"),)), True),
    ],
)
def test_speech_that_the_weights_do_not_know_is_named(transcript: Transcript, unknown: bool) -> None:
    assert any("may be another language" in notice for notice in speech_notices(transcript, REAL)) == unknown


def test_silence_and_demonstration_models_need_no_such_notice() -> None:
    assert speech_notices(said(checked=False), REAL) == []
    bundled = {"transcript": ModelInfo(name="bundled", digest="00", bundled=True)}
    assert speech_notices(said(segment(0, 5), checked=False), bundled) == []
    assert speech_notices(said(), {}) == []
