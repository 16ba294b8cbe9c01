"""A worker process speaks to one Prefect API at a time: Prefect's queues in it keep the API of their beginning."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.workers import worker


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The APIs that were left, each when nothing of it ran any more."""
    left: list[str] = []

    def flush() -> None:
        assert worker._running == 0
        left.append(worker._api[0])

    monkeypatch.setattr(worker, "flush", flush)
    monkeypatch.setattr(worker, "_api", ("", None))
    return left


def _run(api: str, log: list[str], wait: threading.Event | None = None) -> threading.Thread:
    def body() -> None:
        with worker._turn((api, None)):
            log.append(api)
            if wait:
                assert wait.wait(10)

    thread = threading.Thread(target=body)
    thread.start()
    time.sleep(0.05)
    return thread


def test_tasks_of_one_api_run_side_by_side_and_those_of_another_after_them(flushed: list[str]) -> None:
    log: list[str] = []
    go = threading.Event()
    threads = [_run("a", log, go), _run("a", log, go), _run("b", log), _run("a", log)]
    assert log == ["a", "a"], "the last one came after that of the other API, and waits its turn"
    assert flushed == []
    go.set()
    for thread in threads:
        thread.join(10)
    assert log == ["a", "a", "b", "a"]
    assert flushed == ["a", "b"]


def test_a_failed_task_makes_room(flushed: list[str]) -> None:
    with pytest.raises(ValueError, match="x"), worker._turn(("a", None)):
        raise ValueError("x")
    with worker._turn(("b", None)):
        assert flushed == ["a"]


def test_what_is_held_for_another_api_is_left_alone(flushed: list[str]) -> None:
    with worker._turn(("a", None)):
        pass
    worker._leave("b")
    assert flushed == []
    worker._leave("a")
    worker._leave(None)
    assert flushed == ["a", "a"]


def test_a_server_that_follows_another_at_its_port_is_another_one(flushed: list[str]) -> None:
    """It has another auth string, and refuses what comes with the old one."""
    for auth in ("u:first", "u:first", "u:second"):
        with worker._turn(("a", auth)):
            pass
    assert flushed == ["a"]
