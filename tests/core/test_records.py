"""NaN and infinity are refused where they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.records import json_bytes, load_records, save_records
from tasks.core.schema import AnalyzeReport, Box, FrameDetections, Segment, Word

NUMBERS = [float("nan"), float("inf"), float("-inf")]


def smuggled(number: float) -> Segment:
    """A segment that came by its number without being checked."""
    word = Word(start=0, end=1, text="a", probability=0.5).model_copy(update={"probability": number})
    return Segment(id=0, start=0, end=1, text="a").model_copy(update={"words": [word]})


@pytest.mark.parametrize("number", NUMBERS)
def test_a_record_is_not_made_of_them(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Word(start=0, end=1, text="a", probability=number)
    with pytest.raises(ValidationError, match="finite"):
        Box(xyxy=(0, number, 1, 1), class_="car", confidence=0.5)


@pytest.mark.parametrize("number", NUMBERS)
def test_records_refuse_them(number: float, tmp_path: Path) -> None:
    for value in (smuggled(number), [smuggled(number)], {"score": [number]}):
        with pytest.raises(ValueError, match="no number that JSON has"):
            save_records(value, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_report_refuses_them() -> None:
    report = AnalyzeReport(source="a", media_id=None, status="done", result=None, seconds=1, cached=False)
    assert json.loads(report.line())["seconds"] == 1
    with pytest.raises(ValueError, match="no number that JSON has"):
        report.model_copy(update={"seconds": float("nan")}).line()


def test_words_that_look_like_them_are_words(tmp_path: Path) -> None:
    said = [Segment(id=0, start=0, end=1, text='Infinity and -Infinity, says NaN: \\"NaN')]
    save_records(said, tmp_path / "out.json")
    assert load_records(list[Segment], tmp_path / "out.json") == said


def test_fields_are_written_by_their_alias_and_indented() -> None:
    frame = FrameDetections(index=0, time=0.5, boxes=[Box(xyxy=(0, 0, 1, 1), class_="car", confidence=0.5)])
    parsed: dict[str, Any] = json.loads(json_bytes(frame, indent=1, exclude={"index"}))
    assert parsed == {"time": 0.5, "boxes": [{"xyxy": [0, 0, 1, 1], "class": "car", "confidence": 0.5}]}
