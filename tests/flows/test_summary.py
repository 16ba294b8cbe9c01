"""What the Prefect UI and a terminal say of a result is what is the case."""

from __future__ import annotations

from typing import Any

import pytest

from flows import summary
from flows.cli.console import show_report
from tasks.core.schema import AnalyzeReport, ModelInfo, Transcript, TranscriptGap
from tests.core.publish.results import media, result

WHISPER = {"transcript": ModelInfo(name="base", digest="00")}
REPORT = AnalyzeReport(source="talk.mp4", media_id="0" * 32, status="done", result="r", seconds=1.0, cached=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"media": media(audio=False), "models": WHISPER}, "no sound"),
        ({"models": {}}, "not transcribed"),
        ({"models": WHISPER}, "no words were heard"),
    ],
)
def test_why_nothing_was_said(changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = result(transcript=Transcript(), **changes, artifacts={"report": "report.html"})
    show_report(REPORT, found, set())
    for shown in (summary.markdown(found), capsys.readouterr().out):
        assert f"othing: {said}" in shown


def test_frames_with_boxes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    found = result(artifacts={"report": "report.html"})
    show_report(REPORT, found, set())
    assert "(boxes in 3 of 4 frames)" in capsys.readouterr().out
    assert "Seen in 3 of 4 frames" in summary.markdown(found)
    assert "Nothing" not in summary.markdown(found)


def test_speech_without_text_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    gaps = [TranscriptGap(start=0, end=1.5, reason="unlikely"), TranscriptGap(start=2, end=3, reason="nothing_heard")]
    for segments in (result().transcript.segments, []):
        found = result(transcript=Transcript(segments=segments, gaps=gaps), artifacts={"report": "report.html"})
        show_report(REPORT, found, set())
        assert "2.5 s of speech, in 2 places" in capsys.readouterr().out
        assert "2.5 s of speech in 2 places have no text" in summary.markdown(found)
