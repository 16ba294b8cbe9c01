from pathlib import Path

import pytest

from flows.cli.console import show_report
from tasks.core.schema import AnalyzeReport
from tests.core.publish.results import result


def test_a_notice_is_said_once_per_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    noticed: set[str] = set()
    for number, notice in enumerate(("no detections", "no detections", "no transcript", "no detections", None)):
        report = AnalyzeReport(
            source=f"{number}.mp4", media_id="0" * 32, status="done", result="file:///r", seconds=1.0, cached=False
        )
        show_report(report, result(notice=notice, artifacts={"report": "file:///report.html"}), noticed)
    shown = capsys.readouterr().out
    assert shown.count("no detections") == shown.count("no transcript") == 1
    assert shown.index("0.mp4") < shown.index("no detections") < shown.index("1.mp4")
    assert shown.count("report.html") == 5
