"""A ratio below its floor ends the check with status 1 and says what to look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import check
from benchmarks._ratios import MEASURES, Ratio


def test_every_ratio_has_a_floor() -> None:
    floors = json.loads(check.FLOORS.read_text("utf-8"))
    assert floors.keys() == MEASURES.keys()
    assert all(floor > 0 for floor in floors.values())


@pytest.mark.parametrize(("bare_s", "misses"), [(5.0, False), (4.0, False), (3.99, True), (float("nan"), True)])
def test_a_floor_is_met_or_missed(bare_s: float, misses: bool) -> None:
    said = check.missed({"search": Ratio(bare_s, 10.0, "search --sizes 256")}, {"search": 0.4})
    assert bool(said) is misses


def test_a_ratio_without_a_floor_is_a_miss() -> None:
    [said] = check.missed({"search": Ratio(1.0, 1.0, "search")}, {"ingest": 1.0})
    assert "search has no floor" in said


def test_the_check_ends_with_one_sentence_for_each_floor_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    floors = tmp_path / "floors.json"
    floors.write_text('{"search": 0.5, "ingest": 0.1}')
    monkeypatch.setattr(check, "FLOORS", floors)
    for name in ("search", "ingest"):
        monkeypatch.setitem(MEASURES, name, lambda _: Ratio(0.25, 1.0, "search --sizes 256"))
    check.main(["--only", "ingest"])
    with pytest.raises(SystemExit) as ended:
        check.main(["--only", "search", "ingest"])
    [said] = str(ended.value.code).splitlines()
    assert said.startswith("bench-check: search is 0.25, its floor is 0.5: 1 CPU s, and 0.25 of a bare reference.")
    assert "`python -m benchmarks search --sizes 256`" in said
    assert "floors.json" in said
    assert "| ingest | 0.25 | 1 | 0.25 | 0.1 |" in capsys.readouterr().out


def test_a_ratio_is_of_real_work(tmp_path: Path) -> None:
    found = MEASURES["ingest"](tmp_path)
    assert 0 < found.bare_s < found.ours_s < 60
