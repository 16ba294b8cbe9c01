"""A backfill over a bucket and over folders: every good object once, every bad one set aside, nothing done twice."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest

from benchmarks._corpus import Object, make_corpus, tiny
from tasks.core.listing import Selection
from tasks.core.options import parse_options
from tasks.core.schema import AnalyzeReport
from tasks.records.results import read_result
from tasks.store import Store, open_store
from tests.flows.runs import BUNDLED
from tests.flows.test_command_line import BUNDLED_SETS, flows
from tests.prefect_home import new_prefect_home

QUICK = ("transcript.enabled=false", "detections.weights=bundled", "detections.image_size=320")
COUNT = 20


class Bucket:
    """A corpus in a bucket, and what two backfills of it printed."""

    def __init__(self, name: str, corpus: list[Object], environment: dict[str, str], home: Path) -> None:
        self.name, self.corpus = name, corpus
        self.runs: list[tuple[int, list[dict[str, Any]], float]] = []
        self._environment, self._home = environment, home

    @property
    def store(self) -> Store:
        return open_store(f"s3://{self.name}/store")

    def backfill(self, *arguments: str) -> tuple[int, list[dict[str, Any]], float]:
        started = time.monotonic()
        done = flows(
            *("backfill", f"s3://{self.name}/", "--store", f"s3://{self.name}/store", "--json", *BUNDLED_SETS),
            *arguments,
            home=self._home,
            environment=self._environment,
            timeout=400,
        )
        assert done.returncode in (0, 3), done.stderr[-3000:]
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], time.monotonic() - started


@pytest.fixture(scope="module")
def bucket(s3_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="backfill")
        corpus = list(make_corpus(COUNT))
        for found in corpus:
            client.put_object(Bucket="backfill", Key=f"in/{found.key}", Body=found.data)
    made = Bucket("backfill", corpus, s3_environment, new_prefect_home(tmp_path_factory))
    made.runs = [made.backfill(), made.backfill()]
    return made


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))


def _contents(corpus: list[Object], *kinds: str) -> set[bytes]:
    return {found.data for found in corpus if found.kind in kinds}


def test_every_object_of_a_bucket_is_settled_once(bucket: Bucket, s3: None) -> None:
    status, lines, _ = bucket.runs[0]
    assert status == 3
    kinds = {f"s3://backfill/in/{found.key}": found.kind for found in bucket.corpus}
    assert sorted(line["source"] for line in lines) == sorted(kinds)
    for line in lines:
        wanted = {"quarantined"} if kinds[line["source"]] == "broken" else {"done", "cached"}
        assert line["status"] in wanted, line
        assert (line["error"] is None) == (line["status"] != "quarantined")
    good = _contents(bucket.corpus, "video", "audio", "duplicate")
    counts = Counter(line["status"] for line in lines)
    assert counts["done"] == len(good)
    results = [path for path in bucket.store.list("media") if path.endswith("/result.json")]
    assert len(results) == len(good)
    assert len(list(bucket.store.list("quarantine"))) == len(_contents(bucket.corpus, "broken"))
    assert not [path for path in bucket.store.list("media") if path.endswith("/lease.json")]


def test_the_tables_have_exactly_the_results_rows(bucket: Bucket, s3: None, tmp_path: Path) -> None:
    expected: Counter[str] = Counter()
    for path in bucket.store.list("media"):
        if path.endswith("/result.json"):
            found = read_result(bucket.store, path.split("/")[1])
            assert found is not None
            result = found[0]
            expected["transcripts"] += len(result.transcript.segments)
            expected["detections"] += sum(len(frame.boxes) for frame in result.detections.frames)
            expected["runs"] += 1
    rows: Counter[str] = Counter()
    for path in bucket.store.list("tables"):
        rows[path.split("/")[1]] += len(pd.read_parquet(bucket.store.local(path)))
    assert expected["transcripts"] > 0
    assert expected["detections"] > 0
    assert {name: rows[name] for name in expected} == expected


def test_a_second_backfill_does_nothing(bucket: Bucket, s3: None) -> None:
    (first, before, took), (second, after, again) = bucket.runs
    assert second == first
    assert sorted((line["source"], line["media_id"]) for line in after) == sorted(
        (line["source"], line["media_id"]) for line in before
    )
    assert Counter(line["status"] for line in after) == {
        "cached": sum(line["status"] in ("done", "cached") for line in before),
        "quarantined": sum(line["status"] == "quarantined" for line in before),
    }
    assert again < took / 2


def test_a_dry_run_counts_and_changes_nothing(bucket: Bucket, s3: None) -> None:
    from flows.backfill.plan import make_plan

    before = sorted(bucket.store.list(""))
    options = parse_options([*BUNDLED, *BUNDLED_SETS[5::2]])
    plan = make_plan("s3://backfill/", bucket.store, options, Selection())
    broken = sum(found.kind == "broken" for found in bucket.corpus)
    assert (plan.listed, plan.committed, plan.quarantined, plan.to_do) == (COUNT, COUNT - broken, broken, 0)
    other = make_plan("s3://backfill/", bucket.store, parse_options([*QUICK]), Selection())
    assert (other.to_do, other.committed) == (COUNT, 0)
    assert other.work_s > 0
    assert sorted(bucket.store.list("")) == before


class Backfills:
    """Backfills of a folder in this process."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.store = folder / "in", open_store(str(folder / "store"))
        self.prefix.mkdir()

    def run(self, **arguments: Any) -> tuple[dict[str, Any], list[AnalyzeReport]]:
        from flows.backfill.tally import listener
        from flows.backfill_prefix import backfill_prefix

        reports: list[AnalyzeReport] = []
        token = listener.set(lambda report, *_: reports.append(report))
        try:
            state: Any = backfill_prefix(
                prefix=str(self.prefix),
                store=self.store.root,
                options=parse_options(QUICK),
                return_state=True,
                **arguments,
            )
        finally:
            listener.reset(token)
        found = state.result(raise_on_failure=False, _sync=True)
        if isinstance(found, Exception):
            raise found
        return found, reports


@pytest.fixture
def backfills(engine: None, tmp_path: Path) -> Backfills:
    return Backfills(tmp_path)


def test_what_was_set_aside_is_left_until_it_is_asked_for(backfills: Backfills) -> None:
    bad = backfills.prefix / "bad.mp4"
    bad.write_text("no media")
    report, _ = backfills.run()
    assert report["quarantined"] == 1
    [record] = backfills.store.list("quarantine")
    written = backfills.store.read(record)
    report, [said] = backfills.run()
    assert report["quarantined"] == 1
    assert said.error
    assert said.error["code"] == "not_media"
    assert backfills.store.read(record) == written
    backfills.run(retry_quarantined=True)
    assert backfills.store.read(record) != written


def test_an_object_that_was_replaced_is_analysed_again(backfills: Backfills) -> None:
    source = backfills.prefix / "clip.mp4"
    source.write_bytes(tiny(1))
    first, _ = backfills.run()
    source.write_bytes(tiny(2))
    second, _ = backfills.run()
    third, _ = backfills.run()
    assert (first["done"], second["done"], third["done"], third["cached"]) == (1, 1, 0, 1)
    assert len([path for path in backfills.store.list("media") if path.endswith("/result.json")]) == 2


def test_the_same_bytes_under_many_names_are_analysed_once(backfills: Backfills) -> None:
    for number in range(6):
        (backfills.prefix / f"{number}.mp4").write_bytes(tiny(7))
    report, _ = backfills.run(in_flight=6)
    assert (report["done"], report["cached"]) == (1, 5)


def test_a_bad_installation_stops_it_with_one_error(backfills: Backfills) -> None:
    """Not one failure for each of a million objects."""
    from tasks.core.errors import StoreUnavailable

    (backfills.prefix / "clip.mp4").write_bytes(tiny(3))
    blocked = backfills.prefix.parent / "blocked"
    blocked.write_text("a file where the store should be")
    backfills.store = open_store(str(blocked))
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        backfills.run()


def test_objects_are_handed_over_once(backfills: Backfills) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from flows.analyze_media import analyze_media

    for number in range(5):
        (backfills.prefix / f"{number}.mp4").write_bytes(tiny(number))
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(analyze_media)
        deployment = client.create_deployment(flow_id, name=f"test-{os.getpid()}")
        to = {"deployment": f"analyze-media/test-{os.getpid()}", "batch": 2}
        reports = [backfills.run(hand_over=to)[0] for _ in range(2)]
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
    assert [report["handed_over"] for report in reports] == [5, 5]
    sources = [run.parameters["source"] for run in runs]
    assert sorted(len(source) if isinstance(source, list) else 1 for source in sources) == [1, 2, 2]


def test_a_run_that_was_given_several_sources_does_each(engine: None, tmp_path: Path) -> None:
    from flows.analyze_media import analyze_media

    sources = [tmp_path / f"{number}.mp4" for number in range(3)]
    for number, source in enumerate(sources[:2]):
        source.write_bytes(tiny(number))
    sources[2].write_text("no media")
    state: Any = analyze_media(
        source=[str(source) for source in sources],
        store=str(tmp_path / "store"),
        options=parse_options(QUICK),
        return_state=True,
    )
    reports = state.result(raise_on_failure=False, _sync=True)
    assert Counter(report["status"] for report in reports) == {"done": 2, "quarantined": 1}
    assert (state.type.value, state.name) == ("FAILED", "Quarantined")
    [table] = [artifact for artifact in _artifacts(state.state_details.flow_run_id) if artifact.key == "sources"]
    rows = {Path(row["source"]).name: row for row in json.loads(str(table.data))}
    assert {name: row["status"] for name, row in rows.items()} == {
        "0.mp4": "done", "1.mp4": "done", "2.mp4": "quarantined",
    }  # fmt: skip
    assert rows["2.mp4"]["code"] == "not_media"
    assert rows["0.mp4"]["result"].endswith("result.json")


def _artifacts(flow_run_id: Any) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as client:
        return list(
            client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
            )
        )


def test_bad_objects_that_were_handed_over_are_remembered(backfills: Backfills) -> None:
    """The runs that they are handed to end as Quarantined; the next backfill gives them to no other run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from flows.analyze_media import analyze_media

    (backfills.prefix / "empty.mp4").write_bytes(b"")
    (backfills.prefix / "text.mp4").write_text("no media")
    (backfills.prefix / "good.mp4").write_bytes(tiny(5))
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(analyze_media)
        name = f"bad-{os.getpid()}"
        deployment = client.create_deployment(flow_id, name=name)
        to = {"deployment": f"analyze-media/{name}"}
        first, _ = backfills.run(hand_over=to)
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
        for run in runs:  # as a Prefect worker would
            analyze_media(**run.parameters, return_state=True)
        second, reports = backfills.run(hand_over=to)
    assert (first["listed"], first["handed_over"]) == (3, 3)
    assert (second["handed_over"], second["quarantined"], second["cached"]) == (0, 2, 1)
    assert {report.error["code"] for report in reports if report.error} == {"empty", "not_media"}
