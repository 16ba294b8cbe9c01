"""What a stage's work is measured to cost."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context

import pytest

from tasks.stages.stage import Meter, shares_process, submitted_at

OTHERS_S = 0.3


def _burn() -> None:
    until = time.thread_time() + OTHERS_S
    while time.thread_time() < until:
        pass


@pytest.mark.parametrize(("shared", "counted"), [(False, True), (True, False)])
def test_other_threads_count_where_a_worker_has_one_media_in_work(shared: bool, counted: bool) -> None:
    def measured() -> float:
        submitted_at.set(time.time())
        shares_process.set(shared)
        meter, other = Meter(), threading.Thread(target=_burn)
        other.start()
        other.join()
        return meter.timing().cpu_s

    assert (copy_context().run(measured) >= OTHERS_S) is counted
