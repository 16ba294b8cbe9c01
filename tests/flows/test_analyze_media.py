"""The whole flow on the bundled sample: right results, nothing twice, nothing lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.models import bundled
from tasks.core.options import parse_options
from tests.flows.runs import BUNDLED, Runs, comparable

TRUTH = json.loads(bundled.SAMPLE_TRUTH.read_text())
FAST = ("frames.batch_size=8", *bundled.SAMPLE_OPTIONS)


@pytest.fixture(scope="module")
def analyzed(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A store in which the sample is analysed; tests that change it copy it."""
    runs = Runs(str(tmp_path_factory.mktemp("analyzed")))
    assert runs.analyze(bundled.SAMPLE_CLIP, *FAST).report["status"] == "done"
    return runs


def test_the_sample_gives_its_exact_words_and_shapes(analyzed: Runs) -> None:
    [path] = Path(analyzed.root).glob("media/*/result.json")
    result = analyzed.result(path.parent.name)
    assert result is not None
    expected = " ".join(sentence["text"] for sentence in TRUTH["speech"])
    assert _words(result.transcript.text) == _words(expected)
    for frame, shapes in zip(result.detections.frames, TRUTH["objects"], strict=True):
        assert sorted(box.class_ for box in frame.boxes) == sorted(shapes), f"at {frame.time} s"
    assert result.notice is not None
    assert "demonstration models" in result.notice
    assert {name: model.bundled for name, model in result.models.items()} == {"transcript": True, "detections": True}


def test_every_view_is_there_and_carries_the_result(analyzed: Runs) -> None:
    [path] = Path(analyzed.root).glob("media/*/result.json")
    result = analyzed.result(path.parent.name)
    assert result is not None
    for name in ("transcript.srt", "transcript.vtt", "contact_sheet.jpg", "report.html"):
        assert (path.parent / name).stat().st_size > 0, name
    boxes = pd.read_parquet(Path(analyzed.root) / "tables" / "detections")
    assert len(boxes) == sum(len(frame.boxes) for frame in result.detections.frames)
    assert set(boxes["result_key"]) == {result.key}
    said = pd.read_parquet(Path(analyzed.root) / "tables" / "transcripts")
    assert len(said) == len(result.transcript.segments)
    assert len(result.clips) > 0
    assert all(Path(clip.uri.removeprefix("file://")).stat().st_size > 0 for clip in result.clips)
    assert result.cost["total"] > 0
    assert {
        "fetch",
        "probe",
        "audio",
        "segments",
        "clips",
        "transcript",
        "frames",
        "detections",
    } <= result.timing.keys()


def test_the_same_again_runs_no_stage(analyzed: Runs) -> None:
    before = analyzed.manifests()
    again = analyzed.analyze(bundled.SAMPLE_CLIP, *FAST)
    assert again.report["status"] == "cached"
    assert again.bodies() == Counter({"fetch_media": 1, "resolve_models": 1})
    assert analyzed.manifests() == before


def test_a_deleted_artifact_is_made_again_and_only_it(analyzed: Runs) -> None:
    before = analyzed.manifests()
    victim = next(path for path in sorted(before) if "/frames/" in path)
    folder = Path(analyzed.root, victim).parent
    contents = (folder / "frames.parquet").read_bytes()
    for file in folder.iterdir():
        file.unlink()
    again = analyzed.analyze(bundled.SAMPLE_CLIP, *FAST)
    assert again.report["status"] == "done"
    stages = {name: n for name, n in again.bodies().items() if name not in {"fetch_media", "resolve_models"}}
    assert stages == {"sample_frames": 1, "publish_result": 1}
    assert (folder / "frames.parquet").read_bytes() == contents
    after = analyzed.manifests()
    assert {path for path in before if after[path]["finished"] != before[path]["finished"]} == {victim}


def test_a_deleted_view_is_made_again(analyzed: Runs) -> None:
    [report] = Path(analyzed.root).glob("media/*/report.html")
    size = report.stat().st_size
    report.unlink()
    again = analyzed.analyze(bundled.SAMPLE_CLIP, *FAST)
    assert again.states["detect_objects"].keys() == {"Cached"}
    assert report.stat().st_size == size


def test_other_options_of_one_stage_run_only_its_branch(runs: Runs) -> None:
    first = runs.analyze(bundled.SAMPLE_CLIP, *FAST)
    second = runs.analyze(bundled.SAMPLE_CLIP, *FAST, "detections.confidence=0.9")
    assert second.states["detect_objects"].keys() == {"Completed"}
    for stage in ("extract_audio", "segment_speech", "cut_clips", "transcribe", "sample_frames"):
        assert second.states[stage].keys() == {"Cached"}, stage
    assert first.result is not None
    assert second.result is not None
    assert first.result.key != second.result.key
    assert second.result.transcript == first.result.transcript


def test_the_same_bytes_under_another_name_are_the_same_media(analyzed: Runs, tmp_path: Path) -> None:
    twin = tmp_path / "another \"name\" with 'quotes',\na newline and ünïcode.bin"
    twin.write_bytes(bundled.SAMPLE_CLIP.read_bytes())
    assert analyzed.analyze(twin, *FAST).report["status"] == "cached"


def test_results_do_not_depend_on_the_store(analyzed: Runs, runs: Runs) -> None:
    again = runs.analyze(bundled.SAMPLE_CLIP, *FAST)
    one = analyzed.result(again.report["media_id"])
    assert one is not None
    assert again.result is not None
    assert comparable(one) == comparable(again.result)


def test_audio_only_and_video_only_media_give_a_complete_result(runs: Runs, sample: Callable[..., Path]) -> None:
    heard = runs.analyze(sample("audio_only", ".m4a"), *FAST)
    assert heard.report["status"] == "done"
    assert heard.result is not None
    assert heard.result.media.video is None
    assert heard.result.detections.frames_sampled == 0
    seen = runs.analyze(sample("video_only"), *FAST)
    assert seen.report["status"] == "done"
    assert seen.result is not None
    assert seen.result.media.audio is None
    assert seen.result.transcript.segments == []
    assert seen.result.detections.frames_sampled == 4
    for outcome in (heard, seen):
        folder = Path(runs.root) / "media" / outcome.report["media_id"]
        assert (folder / "report.html").exists()
        assert (folder / "contact_sheet.jpg").stat().st_size > 1000


def test_bad_media_is_quarantined_by_the_flow(runs: Runs, sample: Callable[..., Path]) -> None:
    outcome = runs.analyze(sample("without_moov"), *FAST)
    assert outcome.report["status"] == "quarantined"
    assert outcome.report["error"]["code"] == "cut_short"
    [record] = Path(runs.root).glob("quarantine/*.json")
    assert json.loads(record.read_text())["code"] == "cut_short"
    assert not list(Path(runs.root).glob("media/*/result.json"))


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "good.m4a"])
def test_a_bad_source_ends_its_run_in_a_state_that_prefect_counts_as_failed(
    name: str, runs: Runs, tmp_path: Path, sample: Callable[..., Path]
) -> None:
    from prefect.client.orchestration import get_client

    (tmp_path / "text.mp4").write_text("no media")
    (tmp_path / "good.m4a").write_bytes(sample("audio_only", ".m4a").read_bytes())
    from flows.analyze_media import analyze_media

    options = parse_options([*BUNDLED, *FAST])
    state: Any = analyze_media(source=str(tmp_path / name), store=runs.root, options=options, return_state=True)
    with get_client(sync_client=True) as client:
        seen = client.read_flow_run(state.state_details.flow_run_id).state
    assert seen is not None
    expected = ("COMPLETED", "Done") if name.startswith("good") else ("FAILED", "Quarantined")
    assert (seen.type.value, seen.name) == expected
    if seen.is_failed():
        assert name in (seen.message or "")


def _words(text: str) -> list[str]:
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()
