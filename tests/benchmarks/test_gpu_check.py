"""The check of a GPU, run here on small sizes; a part that fails or takes too long says so and stops nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks._gpu.processes import run, utilisation


def test_a_part_gives_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_check.main(["--cpu", "--only", "speech"])
    found = json.loads(capsys.readouterr().out)
    assert found["mode"] == "cpu"
    assert list(found["parts"]) == ["speech"]
    figures = found["parts"]["speech"]["figures"]
    assert figures["dimensions"] == "tiny"
    assert figures["times_real_time"] > 0
    assert figures["ms_per_window"]["encoder"] > 0


def test_a_part_that_fails_gives_its_reason_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def program(name: str, into: Path, *, cpu: bool) -> list[str]:
        bodies = {"detect": "raise SystemExit('boxes differ')", "embed": f"open({str(into)!r}, 'w').write('[1]')"}
        return [sys.executable, "-c", bodies[name]]

    monkeypatch.setattr(gpu_check, "command", program)
    with pytest.raises(SystemExit, match="1"):
        gpu_check.main(["--cpu", "--only", "detect", "embed"])
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert parts["detect"]["failed"] == "boxes differ"
    assert parts["embed"]["figures"] == [1]


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    found = run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "none.json", 0.5)
    assert found["failed"] == "not done within 0.5 s"
    assert found["seconds"] < 30


def test_utilisation_counts_only_numbers() -> None:
    found = utilisation("50, 1000, 300.5\n[N/A], 1, 2\n100, 3000, 500\n")
    assert found["samples"] == 2
    assert found["gpu_percent"] == {"mean": 75.0, "most": 100.0}
    assert found["memory_mib"]["most"] == 3000
    assert utilisation("") == {"samples": 0}
