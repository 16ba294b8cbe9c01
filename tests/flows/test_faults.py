"""Every failure has its owner: no source ends a batch, no artifact and no host has a source set aside."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from benchmarks._corpus import tiny
from tasks.core import ffmpeg
from tasks.core.errors import DamagedArtifact, SetupError, WorkerLost
from tasks.core.options import parse_options
from tests.flows.runs import Runs
from tests.flows.test_command_line import BUNDLED_SETS, flows
from tests.prefect_home import new_prefect_home

QUICK = ("transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_prefect_home(tmp_path_factory)


def _tool_that_dies_on(name: str, folder: Path) -> Path:
    """An ffmpeg that is killed whenever it is given a file of this name."""
    script = folder / "ffmpeg.sh"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{name}*) kill -9 $$;; esac\nexec {ffmpeg.binary()} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.slow
def test_no_source_ends_a_backfill(home: Path, tmp_path: Path, talk: Path, shared_cases: Path) -> None:
    """Also one whose store is the folder above."""
    prefix = tmp_path / "in"
    prefix.mkdir()
    for number in range(3):
        (prefix / f"{number}.mp4").write_bytes(tiny(number))
    (prefix / "talk.mp4").write_bytes(talk.read_bytes())
    (prefix / "killer.mp4").write_bytes(talk.read_bytes() + bytes(8))
    shutil.copy(shared_cases / "ends_a_backfill.w64", prefix / "damaged.w64")
    (prefix / "loop.mp4").symlink_to("loop.mp4")
    environment = {"IMAGEIO_FFMPEG_EXE": str(_tool_that_dies_on("killer.mp4", tmp_path))}

    def backfill() -> tuple[dict[str, tuple[str, str]], float]:
        started = time.monotonic()
        command: list[str | Path] = ["backfill", prefix, "--store", tmp_path, "--json", *BUNDLED_SETS]
        done = flows(*command, home=home, environment=environment, timeout=400)
        assert done.returncode == 3, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        found = {Path(r["source"]).name: (r["status"], (r["error"] or {}).get("code", "")) for r in reports}
        return found, time.monotonic() - started

    found, _ = backfill()
    good = {"0.mp4", "1.mp4", "2.mp4", "talk.mp4"}
    assert {name for name, (status, _) in found.items() if status == "done"} == good
    bad = {name: outcome for name, outcome in found.items() if name not in good}
    assert bad["damaged.w64"][0] == "quarantined"
    assert bad["killer.mp4"] == ("quarantined", "unprocessable")
    assert bad["loop.mp4"] == ("quarantined", "unsupported_source")
    again, _ = backfill()
    assert again == dict.fromkeys(good, ("cached", "")) | bad


@pytest.mark.parametrize(
    ("prefix", "store", "sentence"),
    [
        ("missing", "store", "there is no such folder"),
        ("s3://missing-bucket/in", "store", "there is no bucket 'missing-bucket'"),
        ("in", "ftp://host/store", "neither a folder, file:// nor s3://"),
        ("in", "s3://missing-bucket/store", "missing-bucket"),
    ],
)
def test_a_backfill_that_cannot_begin_says_so_in_a_sentence(
    prefix: str, store: str, sentence: str, home: Path, tmp_path: Path, s3_environment: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(tiny(1))
    given = [name if "://" in name else tmp_path / name for name in (prefix, store)]
    done = flows(
        "backfill", given[0], "--store", given[1], "--json", *BUNDLED_SETS, home=home, environment=s3_environment
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "validation error" not in done.stderr


def _analyze(runs: Runs, source: object, *assignments: str) -> dict[str, Any]:
    from flows.backfill.batch import analyze_one

    options = parse_options([*QUICK, *assignments])
    report: dict[str, Any] = json.loads(analyze_one(str(source), runs.root, options).line())
    return report


def test_a_damaged_artifact_is_made_again_in_the_same_run(runs: Runs, talk: Path) -> None:
    first = _analyze(runs, talk)
    assert first["status"] == "done"
    [track] = Path(runs.root).glob("media/*/audio/*/audio.flac")
    good = track.read_bytes()
    track.write_bytes(bytes(len(good)))
    second = _analyze(runs, talk, "segments.min_speech_s=0.3")
    assert (second["status"], second["error"]) == ("done", None)
    assert track.read_bytes() == good
    assert not list(Path(runs.root).glob("quarantine/*"))


def test_an_artifact_that_is_always_damaged_is_the_stores_fault(runs: Runs, talk: Path) -> None:
    def damaged(*_: Any) -> None:
        raise DamagedArtifact("file:///store/media/x/audio/y: missing or damaged; it is made again")

    with patch("flows.analyze_media._analyze", damaged), pytest.raises(SetupError, match="check what"):
        _analyze(runs, talk)
    assert not list(Path(runs.root).glob("quarantine/*"))


def test_a_damaged_result_is_made_again(runs: Runs, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(tiny(5))
    assert _analyze(runs, source)["status"] == "done"
    [result] = Path(runs.root).glob("media/*/result.json")
    result.write_bytes(result.read_bytes()[:100])
    assert _analyze(runs, source)["status"] == "done"
    assert _analyze(runs, source)["status"] == "cached"


def test_a_source_that_ends_its_workers_is_set_aside(runs: Runs, talk: Path) -> None:
    """Because the bundled sample does not: it goes through every stage on workers of both kinds."""

    def lost(*_: Any) -> None:
        raise WorkerLost("The Dask worker of task 'sample_frames' was lost (KilledWorker) 2 times.")

    with patch("flows.analyze_media._analyze", lost):
        report = _analyze(runs, talk)
        assert (report["status"], report["error"]["code"]) == ("quarantined", "unprocessable")
        with (
            patch("flows.analyze_media.host_check.try_cpu_stages.submit", lost),
            pytest.raises(SetupError, match="So it is with the bundled sample"),
        ):
            _analyze(runs, talk)


def test_a_source_that_grows_is_read_anew(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size was when it was first seen, and whatever was found in its first half."""
    source = tmp_path / "growing.mp4"
    whole = tiny(6) + bytes(8)
    source.write_bytes(whole[:-8])
    grown = threading.Event()
    from tasks.stages import media

    probed = media.load_info

    def then_it_grows(ref: Any) -> Any:
        info = probed(ref)
        if not grown.is_set():
            grown.set()
            source.write_bytes(whole)
        return info

    monkeypatch.setattr(media, "load_info", then_it_grows)
    report = _analyze(runs, source)
    assert (report["status"], report["error"]) == ("done", None)
    result = runs.result(report["media_id"])
    assert result is not None
    assert result.media.bytes == len(whole)


def test_a_source_that_never_holds_still_is_set_aside_for_now(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.stages import media

    source = tmp_path / "growing.mp4"
    source.write_bytes(tiny(7))
    probed = media.load_info

    def and_it_grows(ref: Any) -> Any:
        with source.open("ab") as file:
            file.write(b"more")
        return probed(ref)

    monkeypatch.setattr("flows.analyze_media.SETTLE_S", (0.1, 0.1))
    monkeypatch.setattr(media, "load_info", and_it_grows)
    report = _analyze(runs, source)
    assert (report["status"], report["error"]["code"]) == ("quarantined", "source_changed")
    assert not list(Path(runs.root).glob("quarantine/*"))
    monkeypatch.setattr(media, "load_info", probed)
    assert _analyze(runs, source)["status"] == "done"


def test_a_raised_limit_reopens_nothing_but_what_it_stopped(runs: Runs, tmp_path: Path) -> None:
    small, large = tmp_path / "small.mp4", tmp_path / "large.mp4"
    small.write_bytes(tiny(8))
    large.write_bytes(tiny(9) + bytes(50_000))
    bound = "limits.max_bytes=40000"
    assert [_analyze(runs, source, bound)["status"] for source in (small, large)] == ["done", "quarantined"]
    [record] = Path(runs.root).glob("quarantine/*")
    assert [_analyze(runs, source)["status"] for source in (small, large)] == ["cached", "done"]
    assert not record.exists()
    assert _analyze(runs, small, "frames.batch_size=7")["status"] == "cached"


def test_what_is_no_source_leaves_no_record(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    wrong = (tmp_path / "typo.mp4", tmp_path / "folder", tmp_path / "*.mp4", "http://127.0.0.1:9/a.mp4", "gopher://h/a")
    for source in wrong:
        report = _analyze(runs, source)
        assert (report["status"], report["media_id"]) == ("quarantined", None), report
    assert not list(Path(runs.root).glob("quarantine/*"))
    empty = tmp_path / "late.mp4"
    empty.touch()
    assert _analyze(runs, empty)["error"]["code"] == "empty"
    assert len(list(Path(runs.root).glob("quarantine/*"))) == 1
    empty.write_text("still no media")
    assert _analyze(runs, empty)["error"]["code"] == "not_media"
    [record] = Path(runs.root).glob("quarantine/*")
    assert json.loads(record.read_text())["code"] == "not_media"
    empty.write_bytes(tiny(10))
    assert _analyze(runs, empty)["status"] == "done"
