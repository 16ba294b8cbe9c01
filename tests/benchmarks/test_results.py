"""Figures go to JSON lines and come back the same; RESULTS.md and plots are made from these alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import _results, report
from benchmarks._results import Plot, Row, Table, markdown, median, parser, percentile, publish, read

ROWS: list[Row] = [{"side": "one|two", "frames/s": 12.3456}, {"side": "three", "frames/s": 2.0, "boxes": 7}]


def save(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_results, "FOLDER", folder)
    monkeypatch.setattr(sys, "argv", ["__main__.py", "toy", "--save", str(folder)])
    table = Table("Frames", ROWS, "A note.", [Plot("side", ["frames/s"], "bar"), Plot("side", ["boxes"])])
    weights = folder / "weights.pt"
    weights.write_bytes(b"weights")
    arguments = parser("toy", "How.").parse_args(["--save"])
    publish(arguments, "toy", "How.", [table], weights=[weights], packages=["pytest", "no-such-package"])
    return folder / "toy.jsonl"


def test_a_run_is_read_as_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read(save(tmp_path, monkeypatch))
    assert run.tables[0].rows == ROWS
    assert run.tables[0].plots[0] == Plot("side", ["frames/s"], "bar")
    assert run.versions["pytest"] == pytest.__version__
    assert "no-such-package" not in run.versions
    assert len(run.weights["weights.pt"]) == 12
    assert run.command == f"python -m benchmarks toy --save {tmp_path.name}", "no path of this machine"
    assert str(tmp_path) not in (tmp_path / "toy.jsonl").read_text()
    assert markdown(run.tables[0]) in capsys.readouterr().out


def test_columns_stand_in_the_order_of_their_first_row_and_cells_are_escaped() -> None:
    lines = markdown(Table("T", ROWS)).splitlines()
    assert lines[2] == "| side | frames/s | boxes |"
    assert lines[4] == "| one\\|two | 12.35 |  |"
    assert lines[5] == "| three | 2 | 7 |"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)])
def test_percentiles_are_interpolated(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == pytest.approx(value)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_the_report_is_the_same_twice_and_shows_every_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, monkeypatch)
    for name, value in {"FOLDER": tmp_path, "RESULTS": tmp_path / "RESULTS.md", "PLOTS": tmp_path / "plots"}.items():
        monkeypatch.setattr(report, name, value)
    report.main([])
    first = {path.name: path.read_bytes() for path in [tmp_path / "RESULTS.md", *(tmp_path / "plots").iterdir()]}
    report.main([])
    assert {
        path.name: path.read_bytes() for path in [tmp_path / "RESULTS.md", *(tmp_path / "plots").iterdir()]
    } == first
    text = first["RESULTS.md"].decode()
    assert "## toy" in text
    assert "A note." in text
    for name in first.keys() - {"RESULTS.md"}:
        assert f"(plots/{name})" in text
    assert len(first) == 3


def test_json_lines_are_printed_on_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["__main__.py", "toy", "--json"])
    publish(parser("toy", "How.").parse_args(["--json"]), "toy", "How.", [Table("T", ROWS)])
    head, table = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert head["name"] == "toy"
    assert table["rows"] == ROWS
