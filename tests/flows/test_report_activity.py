"""`report-activity` as a run of Prefect, and `python -m flows report` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner

from flows.__main__ import app
from flows.activity import period
from tasks.core.errors import OptionError
from tests.tasks.camera_day import DAY, CameraDay, make_day


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> CameraDay:
    return make_day(tmp_path_factory.mktemp("day"))


def report(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_says_figures_and_where_the_page_is(day: CameraDay, tmp_path: Path) -> None:
    given = ("--store", day.store.root, "--from", "2026-10-25", "--to", "2026-10-26", "--tz", "Europe/Berlin")
    status, shown, _ = report(day.recordings, *given, "--camera", "gate", "--out", tmp_path / "out", "--json")
    assert status == 0
    found = json.loads(shown)
    assert (found["period"]["begin"], found["period"]["end"]) == (DAY.begin, DAY.end)
    assert [camera["camera"] for camera in found["cameras"]] == ["gate"]
    assert len(found["hours"]) == 25
    assert (tmp_path / "out" / "windows.csv").read_text().startswith("local,camera,start,")
    assert (tmp_path / "out" / "report.html").read_text() == Path(found["page"].removeprefix("file://")).read_text()
    status, shown, said = report(*given)
    assert status == 0
    assert "No recordings were named" in " ".join(said.split())
    assert "Sunday 2026-10-25, 25 hours" in " ".join(shown.split())


def test_what_is_no_time_or_camera_is_said(day: CameraDay) -> None:
    given = ("--store", day.store.root)
    assert report(*given, "--from", "lately")[0] == 2
    assert report(*given, "--from", "2026-10-26", "--to", "2026-10-25")[0] == 2
    assert report(*given, "--tz", "Mars/Base")[0] == 2
    status, _, said = report(*given, "--camera", "barn")
    assert (status, type(said)) == (1, str)
    with pytest.raises(OptionError, match="370 days"):
        period("2020-01-01", "2026-01-01", "UTC")


def test_a_run_leaves_an_artifact(engine: None, day: CameraDay) -> None:
    from flows.report_activity import report_activity

    made = report_activity(
        recordings=str(day.recordings),
        store=day.store.root,
        since="2026-10-25",
        until="2026-10-26",
        timezone="Europe/Berlin",
    )
    assert made.windows > 40
    wanted: Any = ArtifactFilter(key=ArtifactFilterKey(any_=[f"report-{made.id}"]))
    with get_client(sync_client=True) as client:
        [artifact] = client.read_artifacts(artifact_filter=wanted)
    text = str(artifact.data)
    assert "| gate | 8 | 6 |" in text
    assert "\\<b\\>person & car\\</b\\>" in text, "a rule's name is text there as well"
    assert made.page in text.replace("\\", "")
