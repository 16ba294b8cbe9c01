"""The command line as a user or a program calls it: exit status, JSON lines, messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments import processes
from tasks.core.models import bundled
from tests import media
from tests.flows.runs import BUNDLED, manifests
from tests.prefect_home import environment_of, new_prefect_home

ROOT = Path(__file__).resolve().parents[2]
BUNDLED_SETS = [word for option in (*BUNDLED, *bundled.SAMPLE_OPTIONS) for word in ("--set", option)]


def _environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where a Prefect home of its own is used."""
    other = {"REELFLOW_DASK_ADDRESS", "REELFLOW_STORE"}
    names = {k: v for k, v in environment_of(home).items() if k not in other}
    return names | {"REELFLOW_CACHE_DIR": str(home / "cache"), **(more or {})}


def flows(
    *arguments: str | Path, home: Path, timeout: float = 240, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m flows` with a Prefect home of its own."""
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=_environment(home, environment), timeout=timeout
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home, for this file."""
    return new_prefect_home(tmp_path_factory)


def test_help_lists_every_command(home: Path) -> None:
    shown = flows("--help", home=home)
    assert shown.returncode == 0
    for command in ("demo", "analyze", "options", "models", "doctor"):
        assert command in shown.stdout


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("frame.fps=2", "did you mean frames.fps"),
        ("frames.fps=0", "greater than 0"),
        ("frames.fps", "section.option=value"),
        ("detections.nonsense=1", "there is no such option"),
    ],
)
def test_a_wrong_option_is_a_usage_error(assignment: str, hint: str, home: Path) -> None:
    shown = flows("analyze", "x.mp4", "--set", assignment, home=home)
    assert shown.returncode == 2
    assert hint in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_unknown_command_is_a_usage_error(home: Path) -> None:
    assert flows("analyse", home=home).returncode == 2


def printed_by_the_readme() -> list[str]:
    """What README.md says that the demo prints, line by line: up to `...`, spaces as one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    [printed] = [text for language, text in blocks if not language]
    return [" ".join(line.partition("...")[0].split()) for line in printed.splitlines()]


def test_the_demo_says_words_shapes_and_where_the_report_is(home: Path, tmp_path: Path) -> None:
    truth = json.loads(bundled.SAMPLE_TRUTH.read_text())
    shown = flows("demo", "--store", tmp_path / "store", home=home)
    assert shown.returncode == 0, shown.stderr
    for sentence in truth["speech"]:
        assert sentence["text"].lower() in shown.stdout.lower()
    for shape in truth["shapes"]:
        assert shape in shown.stdout
    assert "demonstration models" in shown.stdout
    assert "report.html" in shown.stdout
    assert "shows     a blue ring, a purple triangle, an orange cross and a black square" in shown.stdout
    assert len(printed_by_the_readme()) > 10
    for line in printed_by_the_readme():
        assert line in " ".join(shown.stdout.split())
    again = flows("demo", "--store", tmp_path / "store", home=home, timeout=60)
    assert again.stdout.startswith("cached")
    for question, kind, start, end in (("red circle", "speech", 0.6, 2.18), ("purple triangle", "scenes", 12.6, 25.0)):
        found = flows("search", question, "--in", kind, "--json", "--store", tmp_path / "store", home=home)
        best = json.loads(found.stdout.splitlines()[0])
        assert list(best) == ["media_id", "source", "start", "end", "score", "kind", "why", "thumbnail"]
        assert start - 1 <= best["start"] <= best["end"] <= end + 1
        assert best["kind"] == kind
    built = flows("build-index", "--json", "--store", tmp_path / "store", home=home)
    assert json.loads(built.stdout)["media"] == 1
    for wrong in (("--in", "smells"), ("--limit", "0"), ("--media", "../x")):
        refused = flows("search", "red", *wrong, "--store", tmp_path / "store", home=home)
        assert refused.returncode == 2, wrong
        assert "Traceback" not in refused.stderr


def test_bad_input_is_quarantined_each_with_its_reason(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    secret = folder / "secret.txt"
    secret.write_text("do not read me")
    talk = media.talk(folder / "talk.mp4")
    hostile = folder / "..\n'name\" with  spaces; $(touch pwned).mp4"
    hostile.write_text("this is text")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is text, whatever its name says\n" * 100)
    expected = {
        folder / "empty.mp4": "empty",
        folder / "text.mp4": "not_media",
        media.without_moov(folder / "no_moov.mp4"): "cut_short",
        media.hls_playlist(folder / "playlist.mp4", secret): "forbidden_format",
        media.concat_script(folder / "concat.mp4", secret): "forbidden_format",
        media.subtitles_only(folder / "subtitles.mkv"): "not_media",
        media.still_image(folder / "still.png").rename(folder / "still.mp4"): "not_media",
        media.huge_header(folder / "huge.mp4"): "limit_exceeded",
        folder / "missing.mp4": "not_found",
        folder: "unsupported_source",
        hostile: "not_media",
    }
    shown = flows("analyze", *expected, talk, *BUNDLED_SETS, "--store", tmp_path / "store", "--json", home=home)
    reports = [json.loads(line) for line in shown.stdout.splitlines()]
    assert shown.returncode == 3, shown.stderr
    assert "Traceback" not in shown.stderr
    got = {report["source"]: (report["status"], (report["error"] or {}).get("code")) for report in reports}
    assert list(got.values())[:-1] == [("quarantined", code) for code in expected.values()], got
    assert (reports[-1]["status"], reports[-1]["error"]) == ("done", None)
    assert all(report["seconds"] < 10 for report in reports[:-1])
    no_source = ("not_found", "unsupported_source")
    assert all((report["media_id"] is None) == (report["error"]["code"] in no_source) for report in reports[:-1])
    for report in (report for report in reports[:-1] if report["media_id"]):
        record = json.loads((tmp_path / "store" / "quarantine" / f"{report['media_id']}.json").read_text())
        assert record["code"] == report["error"]["code"]
    assert not (ROOT / "pwned").exists()


def test_a_bucket_that_does_not_exist_is_quarantined(
    home: Path, tmp_path: Path, s3_environment: dict[str, str]
) -> None:
    source = "s3://no-such-bucket-here/key.mp4"
    arguments: list[str | Path] = ["analyze", source, *BUNDLED_SETS, "--store", tmp_path / "store", "--json"]
    shown = flows(*arguments, home=home, environment=s3_environment)
    report = json.loads(shown.stdout)
    assert shown.returncode == 3, shown.stderr
    assert report["error"]["code"] == "not_found"


def test_a_media_cut_in_the_middle_is_analysed_up_to_the_damage(home: Path, tmp_path: Path) -> None:
    source = media.truncated(tmp_path / "cut.mp4")
    shown = flows("analyze", source, *BUNDLED_SETS, "--store", tmp_path / "store", "--json", home=home)
    report = json.loads(shown.stdout)
    assert (shown.returncode, report["status"]) in {(0, "done"), (3, "quarantined")}, shown.stderr
    if report["status"] == "done":
        result = json.loads(next((tmp_path / "store").glob("media/*/result.json")).read_text())
        assert result["media"]["damaged"] is True
        assert 0 < result["media"]["duration_s"] < 4


def test_missing_weights_say_what_to_fetch(home: Path, tmp_path: Path) -> None:
    shown = flows(
        "analyze", bundled.SAMPLE_CLIP, "--set", "detections.weights=yolo11x.pt", "--store", tmp_path / "s", "--json",
        home=home, environment={"REELFLOW_MODELS_DIR": str(tmp_path), "REELFLOW_DOWNLOAD": "false"},
    )  # fmt: skip
    report = json.loads(shown.stdout)
    assert (shown.returncode, report["status"], report["error"]["code"]) == (1, "failed", "model_not_found")
    assert "models fetch" in report["error"]["message"]


def test_doctor_has_a_line_for_each_thing(home: Path, tmp_path: Path) -> None:
    shown = flows("doctor", home=home, environment={"REELFLOW_STORE": str(tmp_path / "store")})
    for name in ("ffmpeg", "cpu", "gpu", "memory", "cache", "store", "prefect", "dask", "weights"):
        assert name in shown.stdout
    wrong = {"REELFLOW_STORE": "/proc/nowhere", "REELFLOW_DASK_ADDRESS": "tcp://127.0.0.1:1"}
    broken = flows("doctor", home=home, environment=wrong)
    assert broken.returncode == 1
    assert broken.stdout.count("FAIL") >= 2
    assert "REELFLOW_STORE" in broken.stdout


def test_what_does_not_exist_or_matches_nothing_is_said(home: Path, tmp_path: Path) -> None:
    nowhere, store = tmp_path / "nowhere", tmp_path / "store"
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.txt").write_text("a")
    for command in (("search", "x"), ("build-index",), ("explore", "--port", "0")):
        refused = flows(*command, "--store", nowhere, home=home)
        assert (refused.returncode, refused.stdout) == (1, ""), command
        assert "There is no store at" in refused.stderr
    assert not nowhere.exists()
    nothing = flows("analyze", tmp_path / "media" / "*.mp4", *BUNDLED_SETS, "--store", store, home=home)
    assert nothing.returncode == 1
    assert "*.mp4: no file matches" in nothing.stdout
    assert "a new one begins" in nothing.stderr
    assert not store.exists(), "a typing error leaves no record"
    nothing = flows(
        "backfill", tmp_path / "media", "--glob", "*.mp4", "--dry-run", *BUNDLED_SETS, "--store", store, home=home
    )
    assert nothing.returncode == 1
    assert "matches --glob '*.mp4'" in nothing.stderr
    checked = flows("doctor", "--store", nowhere, home=home)
    assert f"{nowhere} does not exist yet" in checked.stdout
    assert not nowhere.exists()


def test_a_pattern_stands_for_the_files_that_match(home: Path, tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.txt", "[1].mp4"):
        (tmp_path / name).write_text("no media")
    arguments: tuple[str | Path, ...] = (*BUNDLED_SETS, "--store", tmp_path / "store", "--json")
    shown = flows("analyze", tmp_path / "[ab].mp4", tmp_path / "[1].mp4", *arguments, home=home)
    assert [Path(json.loads(line)["source"]).name for line in shown.stdout.splitlines()] == [
        "a.mp4",
        "b.mp4",
        "[1].mp4",
    ]
    assert shown.returncode == 3


def test_models_lists_the_bundled_ones_with_digests(home: Path) -> None:
    shown = flows("models", home=home)
    assert shown.returncode == 0
    assert bundled.SPEECH_CHECKPOINT.name in shown.stdout
    assert bundled.SHAPES_WEIGHTS.name in shown.stdout


def test_real_weights_find_what_the_reference_found(
    home: Path, tmp_path: Path, shared_media: Path, models_dir: Path
) -> None:
    truth = json.loads((shared_media / "ground_truth.json").read_text())["objects_about_1_fps_conf_0.35_yolo11n"]
    sources = [shared_media / "video" / name for name in truth]
    shown = flows(
        "analyze", *sources, "--set", "detections.confidence=0.35", "--set", "transcript.model=bundled",
        "--set", "scenes.shots=false",
        "--store", tmp_path / "store", "--json", home=home, environment={"REELFLOW_MODELS_DIR": str(models_dir)},
        timeout=400,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    for source, line in zip(sources, shown.stdout.splitlines(), strict=True):
        report = json.loads(line)
        result = json.loads(Path(report["result"].removeprefix("file://")).read_text())
        expected = truth[source.name]
        assert result["detections"]["frames_sampled"] == expected["frames"]
        for name, count in expected.items():
            if name != "frames":
                assert abs(result["detections"]["classes"].get(name, 0) - count) <= 0.15 * count, (source.name, name)
    assert manifests(tmp_path / "store")


def test_speech_is_found_where_it_is(home: Path, tmp_path: Path, shared_media: Path, models_dir: Path) -> None:
    truth = json.loads((shared_media / "ground_truth.json").read_text())["video"]["built_jfk_over_bangkok.mp4"]
    shown = flows(
        "analyze", shared_media / "video" / "built_jfk_over_bangkok.mp4", "--set", "transcript.model=bundled",
        "--set", "scenes.shots=false",
        "--store", tmp_path / "store", "--json", home=home, environment={"REELFLOW_MODELS_DIR": str(models_dir)},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    [path] = (tmp_path / "store").glob("media/*/segments/*/segments.json")
    segments = json.loads(path.read_text())
    [spoken] = truth["speech"]
    assert abs(segments[0]["start"] - spoken["start"]) <= 0.5
    assert abs(segments[-1]["end"] - spoken["end"]) <= 0.5


def test_ctrl_c_ends_everything_in_order_and_the_same_command_goes_on(home: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    arguments = ("analyze", str(bundled.SAMPLE_CLIP), "--store", str(store), *BUNDLED_SETS)
    mark = f"interrupted-{os.getpid()}"
    started = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "flows", *arguments],  # background jobs ignore it
        cwd=ROOT,
        env=_environment(home, {processes.MARK: mark}),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not any("/audio/" in path for path in manifests(store)):
            assert started.poll() is None, "it ended before it could be interrupted"
            assert time.monotonic() < deadline, "it never got to the sound"
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does: every process of the group
        _, said = started.communicate(timeout=60)
        assert started.returncode == 130, said
        assert "Interrupted" in said
        assert "Traceback" not in said
        deadline = time.monotonic() + 10
        while processes.members(mark):
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.1)
    finally:
        processes.end(mark, [])
    finished = manifests(store)
    assert flows(*arguments, home=home).returncode == 0
    assert {path: manifests(store)[path]["finished"] for path in finished} == {
        path: manifest["finished"] for path, manifest in finished.items()
    }
