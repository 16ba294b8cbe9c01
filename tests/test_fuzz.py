"""The fuzzer damages as it says, its rules can be broken, and a fixed set of damaged files breaks none of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import DAMAGES, FILM, LONGEST_S, SOUND, WARM_UP, Outcome, main, make_damaged, make_good

COUNT = len(SOUND) + len(FILM)
LONGEST_BESIDE_OTHERS_S = 60.0
"""Other tests run at the same time."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make_good(tmp_path_factory.mktemp("good"))


def test_every_container_and_damage_has_its_turn(good: dict[str, bytes], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "again", "other")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        make_damaged(folder, 7 * len(good), seed, good)
    first, again, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == again
    assert first.keys() == other.keys()
    assert sum(first[name] == other[name] for name in first) < len(first) / 10
    pairs = Counter(tuple(name.partition("-")[2].split(".", 1)) for name in first)
    assert pairs == Counter((damage, kind) for damage in DAMAGES for kind in (*SOUND, *FILM))
    assert sum(first[name] == good[name.partition(".")[2]] for name in first) < len(first) / 20


def _report(name: str = "0.mp4", **changes: Any) -> dict[str, Any]:
    return {"source": f"/in/{name}", "status": "done", "seconds": 1.0, "error": None} | changes


NAMES = [f"{number}.mp4" for number in range(WARM_UP + 1)]
FINE = [_report(name) for name in NAMES]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"reports": [*FINE[1:], _report(status="failed", error={"code": "x", "message": "no"})]}, "failed"),
        ({"reports": [*FINE[:-1], _report(NAMES[-1], seconds=LONGEST_S + 1)]}, "11.0 s"),
        ({"reports": FINE[1:]}, "0 reports"),
        ({"reports": [*FINE, FINE[0]]}, "2 reports"),
        ({"errors": "Traceback (most recent call last)"}, "a traceback"),
        ({"status": 1}, "exit status 1"),
        ({"left": ["process 7 (ffmpeg)"]}, "stayed behind"),
        ({"memory": [2**30 + number * 2**22 for number in range(400)]}, "memory grew"),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, Any], fault: str) -> None:
    fine: dict[str, Any] = {"reports": FINE, "errors": "", "status": 3, "seconds": 1.0, "memory": [2**30] * 100}
    assert Outcome(**fine).faults(NAMES) == []
    [found] = Outcome(**(fine | changes)).faults(NAMES)
    assert fault in found


@pytest.mark.slow
def test_damaged_media_break_no_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--longest", str(LONGEST_BESIDE_OTHERS_S)]
    status = main(["--count", str(COUNT), "--seed", "1", "--keep", str(tmp_path), *bounds])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "| all |" in shown
