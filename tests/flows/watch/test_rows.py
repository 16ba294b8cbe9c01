"""Flow runs that exist before they begin, on a real Prefect server: one for what is asked, another after a death."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.backfill.batch import analyze_one
from flows.watch.rows import Rows, rows
from tasks.core.listing import Listed
from tasks.core.options import AnalyzeOptions, parse_options
from tasks.records.lease import Holder
from tasks.store import open_store
from tests.flows.runs import Runs

ASKED = parse_options(["transcript.enabled=false", "detections.weights=bundled", "frames.fps=2"])


def listed(source: object, version: str = '"v1"') -> Listed:
    return Listed(source=str(source), name=Path(str(source)).name, bytes=1, modified=0.0, version=version)


def state_of(run: Any) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id)
    return found.state.type.value if found.state else ""


def test_what_is_asked_once_has_one_run(runs: Runs) -> None:
    with rows(runs.store, ASKED) as made:
        first = made.make(listed("s3://b/1"), ASKED)
        assert first
        assert (first.attempt, state_of(first.run)) == (0, "PENDING")
        assert first.run.parameters["versions"] == {"s3://b/1": '"v1"'}
        assert first.run.parameters["options"]["frames"]["fps"] == 2.0
        less = ASKED.model_copy(update={"frames": ASKED.frames.model_copy(update={"fps": 1.0})})
        assert made.make(listed("s3://b/1"), less) is None, "it is at hand, sampled more or less"
        assert made.make(listed("s3://b/1", '"v2"'), ASKED), "another version"
    with rows(runs.store, AnalyzeOptions()) as others:
        assert others.make(listed("s3://b/1"), AnalyzeOptions()), "other options"


def test_what_a_dead_watcher_left_is_crashed_and_tried_anew(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Holder.me().model_copy(update={"process_start": "1"})
    with monkeypatch.context() as patch:
        patch.setattr(Holder, "me", classmethod(lambda _: gone))
        with rows(runs.store, ASKED) as dead:
            left = dead.make(listed("s3://b/2"), ASKED)
    assert left
    with rows(runs.store, ASKED) as made:
        again = made.make(listed("s3://b/2"), ASKED)
    assert again
    assert again.attempt == 1
    assert state_of(left.run) == "CRASHED"


def test_a_run_that_was_made_is_the_one_that_runs(runs: Runs, talk: Path) -> None:
    with rows(runs.store, ASKED) as made:
        row = made.make(listed(talk), ASKED)
        assert row
        report = analyze_one(str(talk), runs.root, ASKED, run=row.run)
        assert report.status == "done"
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(row.run.id)
        assert (found.state_name, found.idempotency_key) == ("Done", row.run.idempotency_key)
        after = made.make(listed(talk), ASKED)
        assert after
        assert after.attempt == 1, "a run that is over does not keep from another one: the store says what is settled"
    assert isinstance(made, Rows)
    assert open_store(runs.root).exists()
