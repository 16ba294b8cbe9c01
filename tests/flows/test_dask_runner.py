"""Futures of the task runner keep what Prefect says of futures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client

from flows.task_runner import ClusterTaskRunner
from tasks.core.schema import MediaRef
from tasks.workers.precedence import LARGE_BYTES
from tests.flows.deadly import echo, fail, first_span, leading_span, span, write


def test_a_task_waits_for_what_it_is_told_to_wait_for(engine: None, tmp_path: Path) -> None:
    """Two workers: without `wait_for` the second task would begin at once on the other."""
    file = str(tmp_path / "order")

    @flow(task_runner=ClusterTaskRunner())
    def in_order() -> str:
        first = write.submit(file, "first ", after_s=1.5)
        second = write.submit(file, "second ", after_s=1.0, return_state=False, wait_for=[first])
        write.submit(file, "and ", return_state=False, wait_for=second).result()
        mapped = write.map([file, file], ["third", "third"], wait_for=[write.submit(file, "", after_s=1.0)])
        mapped.wait()
        return Path(file).read_text()

    assert in_order() == "first second and thirdthird"


def test_a_task_does_not_begin_after_one_that_failed(engine: None, tmp_path: Path) -> None:
    file = tmp_path / "never"

    @flow(task_runner=ClusterTaskRunner())
    def fails() -> None:
        after = write.submit(str(file), "written", return_state=False, wait_for=[fail.submit()])
        after.wait()
        assert after.state.name == "NotReady"
        after.result()

    state: Any = fails(return_state=True)
    with pytest.raises(ValueError, match="it was to fail"):
        state.result(_sync=True)
    assert not file.exists()


def test_waiting_ends_at_the_timeout_and_asks_again(engine: None, tmp_path: Path) -> None:
    @flow(task_runner=ClusterTaskRunner())
    def impatient() -> float:
        future = write.submit(str(tmp_path / "late"), "late", after_s=3.0)
        started = time.monotonic()
        future.wait(timeout=0.5)
        with pytest.raises(TimeoutError, match="did not complete within"):
            future.result(timeout=0.5)
        took_s = time.monotonic() - started
        assert future.result() == "late"
        return took_s

    assert 0.9 < impatient() < 2.5


@task
def _broken() -> None:
    """Cannot be found by name on a worker."""


def test_what_goes_wrong_outside_of_the_task_is_its_state(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot even begin: waiting says nothing, the result says what it was."""
    from tasks.workers import worker

    @flow(task_runner=ClusterTaskRunner())
    def broken() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(worker, "name_of", lambda _: ("tests.flows.deadly", "nothing_of_that_name"))
            future = _broken.submit()
            future.wait()
        assert future.state.is_crashed()
        future.result()

    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        broken()


def test_the_run_that_a_mapped_task_comes_after_is_recorded(engine: None) -> None:
    @task
    def numbers() -> list[int]:
        return [1]

    @flow(task_runner=ClusterTaskRunner())
    def mapped() -> tuple[Any, Any]:
        before = numbers.submit()
        [after] = echo.map(before)
        after.wait()
        return before.task_run_id, after.task_run_id

    before, after = mapped()
    time.sleep(3)
    with get_client(sync_client=True) as client:
        inputs = client.read_task_run(after).task_inputs
    assert before in {found.id for found in inputs["value"]}  # type: ignore[union-attr]


def test_work_that_is_planned_late_need_not_wait_for_what_was_ready(engine: None) -> None:
    """Two workers: when the leading task ends, its worker has long ones at hand and nothing of what follows."""
    media = MediaRef(media_id="0" * 32, source="a.mp4", bytes=LARGE_BYTES, store="store")
    long_s = 2.0

    @flow(task_runner=ClusterTaskRunner())
    def branches() -> float:
        leading = leading_span.submit(media, 0.2)
        many = [span.submit(media, long_s) for _ in range(4)]
        _, led_until = leading.result()
        started, _ = first_span.submit(media, 0.1, after=leading).result()  # goes where that one's result is
        for future in many:
            future.result()
        return float(started - led_until)

    branches()  # imports what a worker's first task imports
    assert branches() < long_s / 2


def test_what_was_begun_is_finished_before_more_is_begun(engine: None) -> None:
    media = MediaRef(media_id="0" * 32, source="a.mp4", bytes=1, store="store")

    @flow(task_runner=ClusterTaskRunner())
    def two_steps() -> tuple[float, float]:
        begun = echo.submit(media)
        more = [span.submit(media, 0.3) for _ in range(8)]
        goes_on = span.submit(cast(Any, begun), 0.1)
        return goes_on.result()[0], max(future.result()[0] for future in more)

    two_steps()
    second, last_first = two_steps()
    assert second < last_first
