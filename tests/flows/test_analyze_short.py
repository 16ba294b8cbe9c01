"""Several short media in one flow run: each comes out as it would alone, and what cannot be done so is done alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from benchmarks._corpus import make_corpus, tiny
from flows import backfill_prefix
from flows.analyze_short import analyze_short_media
from flows.backfill import batch
from tasks.core.errors import NoWorker
from tasks.core.listing import Listed
from tasks.core.models import bundled
from tasks.core.options import parse_options
from tasks.core.schema import AnalyzeReport
from tasks.records.lease import exclusive
from tasks.records.lookup import fetch_source
from tasks.stages.short import SHORT_BYTES, SHORT_S
from tasks.store import Store, open_store
from tests import media
from tests.flows.runs import BUNDLED, Runs, comparable, manifests, submissions, task_states

WHOLE = (*bundled.SAMPLE_OPTIONS, "embeddings.model=bundled")
OPTIONS = parse_options([*BUNDLED, *WHOLE])
QUICK = parse_options(["transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320"])
STAGES = {"fetch_each", "resolve_models", "decode_each", "recognize_each", "publish_each"}


def _short(sources: Sequence[Path], root: str, options: Any = QUICK) -> tuple[list[dict[str, Any] | None], Any]:
    state: Any = analyze_short_media([str(source) for source in sources], root, options, return_state=True)
    found = state.result(raise_on_failure=False, _sync=True)
    if isinstance(found, BaseException):
        raise found
    return found, state.state_details.flow_run_id


def _together(sources: Sequence[Path], root: str) -> list[AnalyzeReport]:
    return batch.analyze_together([str(source) for source in sources], root, QUICK, {})


def _clips(folder: Path, count: int, first: int = 0) -> list[Path]:
    clips = [folder / f"{first + number}.mp4" for number in range(count)]
    for number, clip in enumerate(clips):
        clip.write_bytes(tiny(first + number))
    return clips


def test_together_they_come_out_as_each_alone(runs: Runs, tmp_path: Path) -> None:
    sources = []
    for number, found in enumerate(make_corpus(5)):
        if found.kind in ("video", "audio"):
            sources.append(tmp_path / f"{number}.{'mp4' if found.kind == 'video' else 'ogg'}")
            sources[-1].write_bytes(found.data)
    shared = Runs(str(tmp_path / "shared"))
    with submissions() as submitted:
        reports, flow_run = _short(sources, shared.root, OPTIONS)
    assert task_states(flow_run, submitted) == {name: Counter(Completed=1) for name in STAGES | {"embed_text_bank"}}
    words = boxes = 0
    for source, report in zip(sources, reports, strict=True):
        alone = runs.analyze(source, *WHOLE)
        assert report is not None
        assert {**report, "result": "", "seconds": 0.0, "cost_usd": 0.0} == {
            **alone.report, "result": "", "seconds": 0.0, "cost_usd": 0.0,
        }  # fmt: skip
        together = shared.result(report["media_id"])
        assert together is not None
        assert alone.result is not None
        assert comparable(together) == comparable(alone.result)
        assert together.timing.keys() == alone.result.timing.keys()
        assert all(timing.runs > 0 and timing.cpu_s > 0 for timing in together.timing.values())
        words += len(together.transcript.segments)
        boxes += sum(together.detections.classes.values())
    assert words > 0
    assert boxes > 0
    assert _contents(shared.root) == _contents(runs.root)
    assert not list(Path(shared.root).glob("media/*/lease.json"))


def _contents(root: str) -> dict[str, Any]:
    """The digests of all artifacts, and the bytes of the views that tell no times."""
    timeless = ("transcript.*", "contact_sheet.jpg", "storyboard.*")
    files = [
        *(f"media/*/{name}" for name in timeless),
        *(f"tables/{name}/*/*" for name in ("transcripts", "detections")),
    ]
    found = {str(file.relative_to(root)): file.read_bytes() for name in files for file in Path(root).glob(name)}
    return found | {path: manifest["sha256"] for path, manifest in manifests(Path(root)).items()}


def test_what_is_not_short_bad_doubled_or_worked_on_is_left(engine: None, tmp_path: Path) -> None:
    good, other = _clips(tmp_path, 2)
    double = Path(shutil.copy(good, tmp_path / "double.mp4"))
    bad, empty, large = tmp_path / "bad.mp4", tmp_path / "empty.mp4", tmp_path / "large.mp4"
    bad.write_text("no media")
    empty.touch()
    with large.open("wb") as file:
        file.truncate(SHORT_BYTES + 1)
    long = media.audio_only(tmp_path / "long.flac", seconds=SHORT_S + 0.5)
    root = open_store(str(tmp_path / "store"))
    held = fetch_source(str(other), root.address, QUICK.limits)
    with exclusive(root, held.media_id):
        reports, _ = _short([good, other, double, bad, empty, large, long], root.root)
    assert reports[0] is not None
    assert (reports[0]["status"], reports[1:]) == ("done", [None] * 6)
    assert not list(root.list("quarantine")), "only a run of its own judges"

    whole = _together([good, other, double, bad, empty, long], root.root)
    said = [(report.status, (report.error or {}).get("code")) for report in whole]
    bad_ones = [("quarantined", "not_media"), ("quarantined", "empty")]
    assert said == [("cached", None), ("done", None), ("cached", None), *bad_ones, ("done", None)]
    again = [report.status for report in _together([good, other, long], root.root)]
    assert again == ["cached"] * 3


def test_a_stage_that_was_made_is_not_made_again(engine: None, tmp_path: Path) -> None:
    """As where a run was killed, or a view has gone."""
    sources, store = _clips(tmp_path, 2), tmp_path / "store"
    _short(sources, str(store))
    before = manifests(store)
    for gone in [*store.glob("media/*/result.json"), *store.glob("media/*/detections/*/artifact.json")]:
        gone.unlink()
    reports, _ = _short(sources, str(store))
    assert [report and report["status"] for report in reports] == ["done", "done"]
    after = manifests(store)
    assert after.keys() == before.keys()
    assert {path.split("/")[2] for path in after if after[path] != before[path]} == {"detections"}


def test_a_shared_run_that_fails_leaves_each_to_its_own(
    engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow(name="failing")
    def failing(sources: list[str], store: str, options: Any) -> None:
        raise ConnectionError(f"{len(sources)} sources, {store}")

    monkeypatch.setattr(batch, "analyze_short_media", failing)
    reports = _together(_clips(tmp_path, 3), str(tmp_path / "store"))
    assert [report.status for report in reports] == ["done"] * 3


def test_what_every_source_would_meet_stops_it(tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow(name="lonely")
    def lonely(sources: list[str], store: str, options: Any) -> None:
        raise NoWorker("nobody is there")

    monkeypatch.setattr(batch, "analyze_short_media", lonely)
    with pytest.raises(NoWorker, match="nobody is there"):
        _together(_clips(tmp_path, 2), str(tmp_path / "store"))


def _listed(sizes: Sequence[int]) -> list[Listed]:
    return [
        Listed(source=f"/in/{number}", name=f"{number}", bytes=size, modified=0.0, version="1")
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "in_flight", "together", "groups"),
    [
        ([], 8, 16, []),
        ([1] * 3, 8, 16, [1] * 3),
        ([1] * 13, 8, 16, [3, 3, 3, 4]),
        ([1] * 40, 4, 16, [13, 13, 14]),
        ([1] * 100, 4, 16, [16] * 4 + [12] * 3),
        ([1] * 100, 4, 1, [1] * 100),
        ([1, SHORT_BYTES + 1, 1, 1], 1, 16, [1, 3]),
    ],
)
def test_small_objects_are_shared_out_among_the_runs(
    sizes: list[int], in_flight: int, together: int, groups: list[int]
) -> None:
    found = list(backfill_prefix._groups(_listed(sizes), in_flight, together))
    assert [len(group) for group in found] == groups
    assert sorted(each.source for group in found for each in group) == sorted(each.source for each in _listed(sizes))
    assert all(len(group) == 1 for group in found if group[0].bytes > SHORT_BYTES)


def test_a_backfill_gives_short_media_to_runs_that_they_share(engine: None, tmp_path: Path) -> None:
    source, store = tmp_path / "in", open_store(str(tmp_path / "store"))
    source.mkdir()
    clips = _clips(source, 12, first=100)
    (source / "bad.mp4").write_text("no media")
    before = _flow_runs()
    state: Any = backfill_prefix.backfill_prefix(
        prefix=str(source), store=store.root, options=QUICK, in_flight=8, return_state=True
    )
    report = state.result(raise_on_failure=False, _sync=True)
    assert (report["done"], report["quarantined"], report["failed"]) == (len(clips), 1, 0)
    assert report["cost_usd"] > 0
    assert _flow_runs() - before == Counter({"analyze-short-media": 4, "backfill-prefix": 1, "analyze-media": 1})
    assert _results(store) == len(clips)


def _results(store: Store) -> int:
    return sum(path.endswith("/result.json") for path in store.list("media"))


def _flow_runs() -> Counter[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        names = {found.id: found.name for found in client.read_flows()}
        counted: Counter[str] = Counter()
        for offset in range(0, 10_000, 200):
            page = client.read_flow_runs(limit=200, offset=offset)
            counted.update(names[run.flow_id] for run in page)
            if len(page) < 200:
                break
    return counted
