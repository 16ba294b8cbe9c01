"""Embeddings, scenes, tags and search over the whole flow, with the bundled model on the bundled sample."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.cli.find import Finder
from tasks.core.models import bundled
from tasks.core.publish.storyboard import picture_at
from tasks.core.schema import Result
from tasks.core.search import Kind, Moment, Query
from tests.flows.runs import Runs

TRUTH = json.loads(bundled.SAMPLE_TRUTH.read_text())
[CUT] = TRUTH["cut_s"]
TOP = 6
SHOWN = ("embeddings.model=bundled", f"tags.top={TOP}", *bundled.SAMPLE_OPTIONS)
BEFORE = {"circle", "square", "star", "red shape", "green shape", "yellow shape"}
AFTER = {
    "ring", "triangle", "cross", "square", "blue shape", "purple shape", "orange shape", "black shape",
}  # fmt: skip


@pytest.fixture(scope="module")
def analyzed(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(str(tmp_path_factory.mktemp("scenes")))
    assert runs.analyze(bundled.SAMPLE_CLIP, *SHOWN).report["status"] == "done"
    return runs


@pytest.fixture(scope="module")
def result(analyzed: Runs) -> Result:
    return only_result(analyzed)


def only_result(runs: Runs) -> Result:
    [path] = Path(runs.root).glob("media/*/result.json")
    return Result.model_validate_json(path.read_text())


def test_cuts_are_exact_and_content_changes_where_the_scene_does(result: Result) -> None:
    assert [change.time for change in result.scenes if change.method == "shot"] == [pytest.approx(CUT, abs=0.02)]
    changes = [change.time for change in result.scenes if change.method == "ema"]
    assert any(CUT <= time <= CUT + 10 / 16 for time in changes), "the first embedded frame of the new scene"
    star = next(second for second, shapes in enumerate(TRUTH["objects"]) if "star" in shapes)
    assert min(changes) > star - 1, "the first thing that changes is a star that comes in"


def test_tags_and_captions_name_what_is_shown(result: Result) -> None:
    first, _, last = result.chunks
    assert {tag.text for tag in first.tags} == BEFORE
    assert {tag.text for tag in last.tags} <= AFTER
    assert {tag.text for tag in result.tags} <= BEFORE | AFTER
    assert len(result.tags) == len(last.tags) == TOP
    assert all((tag.probability or 0) > 0.5 for tag in first.tags[:4])
    assert result.caption is not None
    assert result.caption.text == "a blue ring, a purple triangle, an orange cross and a black square"
    assert CUT <= result.caption.start < result.caption.end <= 25.0
    assert result.models["tags"].name == "shapes"
    assert result.models["embeddings"].bundled


def test_views_show_them(analyzed: Runs, result: Result) -> None:
    root, folder = Path(analyzed.root), Path(analyzed.root) / "media" / result.media_id
    vectors = np.stack(pd.read_parquet(root / "tables" / "embeddings")["vector"].tolist())
    assert len(vectors) == 40
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    tags = pd.read_parquet(root / "tables" / "tags")
    assert set(tags[tags["chunk"].isna() & (tags["kind"] == "tag")]["text"]) == {tag.text for tag in result.tags}
    assert len(pd.read_parquet(root / "tables" / "scenes")) == len(result.scenes)
    assert picture_at((folder / "storyboard.vtt").read_text(), 13.0) is not None
    assert (folder / "storyboard.jpg").read_bytes().startswith(b"\xff\xd8")
    page = (folder / "report.html").read_text()
    assert result.caption is not None
    assert result.caption.text in page
    assert [path.parent.name for path in root.glob("text_banks/*/*.npz")] == ["shapes"]


def test_batches_change_nothing(analyzed: Runs, result: Result, tmp_path: Path) -> None:
    runs = Runs(str(tmp_path / "store"))
    runs.analyze(bundled.SAMPLE_CLIP, *SHOWN, "frames.batch_size=4", "transcript.enabled=false", "clips.enabled=false")
    other = only_result(runs)
    assert rounded(other.scenes) == rounded(result.scenes)
    assert rounded(other.chunks) == rounded(result.chunks)
    assert rounded(other.tags) == rounded(result.tags)


def rounded(records: Any) -> Any:
    """Scores to four digits: batches of another size may round the last ones differently."""
    if isinstance(records, float):
        return round(records, 4)
    if isinstance(records, list):
        return [rounded(record) for record in records]
    return {k: rounded(v) for k, v in records.items()} if isinstance(records, dict) else _fields(records)


def _fields(record: Any) -> Any:
    return rounded(record.model_dump()) if hasattr(record, "model_dump") else record


def test_another_bank_describes_again_and_embeds_no_frame_again(analyzed: Runs, tmp_path: Path) -> None:
    bank = tmp_path / "mine.yaml"
    bank.write_text("name: mine\ntemplates: ['a {}']\ntags: [blue ring, red star]\ndescriptions: [a black square]\n")
    again = analyzed.analyze(bundled.SAMPLE_CLIP, *SHOWN, f"tags.bank={bank}")
    stages = {name: n for name, n in again.bodies().items() if name not in {"fetch_media", "resolve_models"}}
    assert stages == Counter({"embed_text_bank": 1, "describe": 1, "publish_result": 1})
    assert only_result(analyzed).tags[0].text == "blue ring"
    analyzed.analyze(bundled.SAMPLE_CLIP, *SHOWN)


@pytest.mark.parametrize(
    ("text", "kind", "start", "end"),
    [
        ("red circle", "speech", 0.6, 2.18),
        ('"purple triangle"', "speech", 14.21, 16.12),
        ("red circle", "scenes", 0.0, CUT),
        ("orange cross", "scenes", CUT, 25.0),
        ("star", "objects", 5.0, CUT),
    ],
)
def test_search_lands_where_it_is(analyzed: Runs, text: str, kind: Kind, start: float, end: float) -> None:
    moments: list[Moment] = Finder(analyzed.root)(Query(text=text, kinds=frozenset([kind])))
    best = moments[0]
    assert best.kind == kind
    assert start - 1 <= best.start <= best.end <= end + 1
    assert best.thumbnail is not None
    assert best.thumbnail.startswith(f"file://{analyzed.root}/media/{best.media_id}/storyboard.jpg#xywh=")
