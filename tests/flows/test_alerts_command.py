"""`python -m flows alerts` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from tasks.store import open_store
from tests.core.tracking.scenes import walker, windows
from tests.tasks.recordings import analyse_all, record

RULES = "rules:\n  - name: r\n    class: person\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def flows(*arguments: str | Path) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    done = CliRunner().invoke(app, ["alerts", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_help_teaches_the_file() -> None:
    status, shown, _ = flows("--help")
    assert status == 0
    for word in ("timezone:", "[person, dog]", "days: [fri, sat]", "to: [log, mail]", "then: hold or drop"):
        assert word in shown


def test_a_fault_is_a_usage_error_with_its_line(rules: Path) -> None:
    assert flows("check", rules)[0] == 0
    rules.write_text(RULES + "    dwel_s: 5\n")
    status, _, said = flows("check", rules)
    assert status == 2
    assert "rules.yaml:4: rules.dwel_s: there is no such field" in " ".join(said.split())
    assert flows("check", rules.with_name("none.yaml"))[0] == 2


def test_run_and_replay_say_the_same_alerts(tmp_path: Path, rules: Path) -> None:
    made = windows({"person": [walker(1, 9), walker(14, 22)]}, until=30)
    store = open_store(str(tmp_path / "store"))
    analyse_all(store, record(tmp_path / "rec", made), made)
    run = ("run", tmp_path / "rec", "--rules", rules, "--store", store.root, "--json")
    status, shown, said = flows(*run)
    assert status == 0
    assert "10 windows tracked, 2 new alerts" in said
    fired = [json.loads(line) for line in shown.splitlines()]
    assert [sorted(each) for each in fired] == [sorted(fired[0])] * 2
    assert fired[0].keys() >= {
        "id", "rule", "camera", "visit", "start", "end", "classes", "media_id", "image", "clip", "deliveries"
    }  # fmt: skip
    assert flows(*run)[1] == ""
    replayed = flows("replay", rules, "--store", store.root, "--json")[1]
    assert [json.loads(line)["id"] for line in replayed.splitlines()] == [each["id"] for each in fired]
    assert flows("replay", rules, "--store", store.root, "--from", "2030-01-01", "--json")[1] == ""


def test_windows_that_are_waited_for_are_said(tmp_path: Path, rules: Path) -> None:
    record(tmp_path / "rec", windows({}, until=6))
    status, _, said = flows("run", tmp_path / "rec", "--rules", rules, "--store", tmp_path / "store")
    assert status == 0
    assert "is not analysed yet" in " ".join(said.split())
