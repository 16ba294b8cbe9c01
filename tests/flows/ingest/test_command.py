"""`python -m flows ingest`: its lines, its exit statuses, and what it never says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from flows.ingest.cameras import options, read_config, resolve
from tasks.core.errors import CredentialsRefused, OptionError
from tasks.records.recordings import list_windows
from tasks.store import open_store

FIELDS = {
    "camera", "run", "sequence", "key", "start", "start_uncertainty_ms", "clock", "media_duration_s", "wall_duration_s",
    "frames", "fps", "width", "height", "codec", "keyframe_aligned", "gap_before_s",
}  # fmt: skip


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["ingest", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))


def test_a_file_becomes_windows_and_lines_and_again_the_same(sample: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "20261121T140500Z.mp4"
    source.write_bytes(sample("write", seconds=4.0, gop=25).read_bytes())
    for _ in range(2):
        status, out, _ = run(source, "--camera", "gate", "--to", tmp_path / "rec", "--window", 2, "--json")
        assert status == 0
        lines = sorted((json.loads(line) for line in out.splitlines()), key=lambda line: line["sequence"])
        assert [line["frames"] for line in lines] == [50, 50]
        assert all(set(line) >= FIELDS for line in lines)
        assert lines[0]["key"] == "camera=gate/2026/11/21/20261121T140500.000Z-00000001.mp4"
        assert (lines[1]["start"], lines[1]["clock"]) == ("2026-11-21T14:05:02.000Z", "file")
        beside = json.loads((tmp_path / "rec" / f"{lines[0]['key']}.json").read_bytes())
        assert beside == lines[0]
        store = open_store(str(tmp_path / "rec"))
        assert [window.sequence for window in list_windows(store, "gate")] == [1, 2]
        assert len([path for path in store.list("camera=gate") if path.endswith(".mp4")]) == 2
        assert not list(store.list("ledger"))


def test_what_is_missing_or_wrong_is_a_usage_error(tmp_path: Path) -> None:
    assert run()[0] == 2
    assert run("x.mp4", "--camera", "gate")[0] == 2
    assert run("x.mp4", "--camera", "a/b", "--to", tmp_path)[0] == 2
    assert run("x.mp4", "--camera", "gate", "--to", tmp_path, "--keep", "soon")[0] == 2
    assert run("x.mp4", "--config", "c.yaml", "--camera", "gate")[0] == 2


def test_a_configuration_names_the_place_of_a_mistake_and_no_password(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    for text, words in (
        ("to: x\ncameras: {gate: {url: 'rtsp://u:s3cret@h/x', windw: 3}}", "cameras.gate.windw"),
        ("to: x\ncameras: {gate: {url: 'rtsp://u:s3cret@h/x', window: 0}}", "cameras.gate.window"),
        ("to: x\ncameras: {'a/b': {url: 'rtsp://u:s3cret@h/x'}}", "no name for a camera"),
        ("to: x\n  cameras: [", "line 2"),
        ("- s3cret", "`to:` and `cameras:`"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError) as refused:
            read_config(path)
        assert words in refused.value.message
        assert "s3cret" not in refused.value.message
    path.write_text("to: rec\ncameras:\n  gate: {url: env:GATE, keep: 30d}\n  hall: {url: talk.mp4, window: 10}\n")
    found = read_config(path, spool_bytes=2**21)
    assert (found.cameras["gate"].keep_s, found.cameras["hall"].window, found.spool_bytes) == (30 * 86_400, 10, 2**21)


def test_an_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE", "rtsp://u:s3cret@h/x")
    assert resolve("env:GATE") == "rtsp://u:s3cret@h/x"
    with pytest.raises(CredentialsRefused, match="no variable HALL"):
        resolve("env:HALL")
    assert "s3cret" not in repr(options("x", to="rec", cameras={"gate": {"url": "env:GATE"}}))
