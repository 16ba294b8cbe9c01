"""A store that does not keep conditions is noticed; the result that is committed has the size of a real one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from benchmarks.commit import check_condition, make_result
from tasks.store import Store, open_store


class LastOneWins:
    """A store that accepts every commit."""

    root = "memory"

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        pass


def test_a_folder_keeps_conditions(tmp_path: Path) -> None:
    check_condition(open_store(str(tmp_path)))


def test_a_store_that_does_not_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="two commits won"):
        check_condition(cast(Store, LastOneWins()))


def test_the_result_is_the_same_in_every_run_and_as_large_as_asked_for() -> None:
    one = make_result(frames=20, segments=5)
    assert one == make_result(frames=20, segments=5)
    assert (len(one.detections.frames), len(one.transcript.segments)) == (20, 5)
    assert sum(len(frame.boxes) for frame in one.detections.frames) == 100
