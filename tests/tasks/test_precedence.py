"""What may slip in behind a task that longer work waits for."""

from __future__ import annotations

import time

import pytest
from distributed import Reschedule
from prefect import Task, task

from tasks.core.schema import MediaRef
from tasks.workers.precedence import FIRST_TAG, HOLD_S, LARGE_BYTES, LEADS_TAG, Precedence


def _task(*tags: str) -> Task[..., object]:
    return task(name="some", tags=list(tags))(_nothing)


def _nothing() -> None:
    pass


def _runs(precedence: Precedence, task: Task[..., object], media: MediaRef | None) -> bool:
    try:
        with precedence.of(task, media):
            return True
    except Reschedule:
        return False


def _media(size: int = LARGE_BYTES) -> MediaRef:
    return MediaRef(media_id="0" * 32, source="a.mp4", bytes=size, store="store")


@pytest.fixture
def led() -> Precedence:
    """After a task that leads."""
    precedence = Precedence()
    with precedence.of(_task(LEADS_TAG), _media()):
        pass
    return precedence


def test_a_large_medias_task_is_put_back_behind_one_that_leads(led: Precedence) -> None:
    with pytest.raises(Reschedule), led.of(_task(), _media()):
        pytest.fail("it ran")


@pytest.mark.parametrize("tag", [FIRST_TAG, LEADS_TAG])
def test_what_is_waited_for_runs_at_once(led: Precedence, tag: str) -> None:
    assert _runs(led, _task(tag), _media())


@pytest.mark.parametrize("media", [_media(LARGE_BYTES - 1), None], ids=["small", "no media"])
def test_what_is_soon_over_runs_at_once(led: Precedence, media: MediaRef | None) -> None:
    assert _runs(led, _task(), media)


def test_nothing_waits_for_long(led: Precedence, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + HOLD_S)
    assert _runs(led, _task(), _media())


def test_a_task_that_failed_leads_nowhere() -> None:
    precedence = Precedence()
    with pytest.raises(ZeroDivisionError), precedence.of(_task(LEADS_TAG), _media()):
        raise ZeroDivisionError
    assert _runs(precedence, _task(), _media())
