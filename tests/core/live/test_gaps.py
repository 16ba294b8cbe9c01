"""Every second without a window has a row with a cause, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tasks.core.live.gaps import Gap, Ledger, LedgerState
from tasks.core.live.names import WindowRecord, key, rfc3339

T = 1_700_000_000.0


def window(sequence: int, start: float, seconds: float = 3.0) -> WindowRecord:
    values: dict[str, Any] = {"camera": "gate", "run": "r", "sequence": sequence, "start": rfc3339(T + start)}
    values |= {"key": key("gate", T + start, sequence, "mp4"), "start_uncertainty_ms": 1.0, "clock": "wall-min"}
    values |= {"media_duration_s": seconds, "wall_duration_s": seconds, "frames": 75, "fps": 25.0, "width": 640}
    values |= {"height": 360, "codec": "h264", "bytes": 1000, "keyframe_aligned": True, "gap_before_s": 0.0}
    return WindowRecord.model_validate(values)


def rows(gaps: list[Gap]) -> list[tuple[float, float | None, str]]:
    def at(text: str | None) -> float | None:
        return None if text is None else round(datetime.fromisoformat(text).timestamp() - T, 3)

    return [(at(gap.start) or 0.0, at(gap.end), gap.cause) for gap in gaps]


def test_windows_that_join_leave_no_row() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    assert ledger.window(window(1, 0.05)) == []
    assert ledger.window(window(2, 3.05)) == []


def test_a_gap_is_divided_by_its_causes() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    ledger.window(window(1, 0.0))
    ledger.mark(T + 2.9, "stalled")
    ledger.mark(T + 13.0, "stream_absent")
    ledger.mark(T + 15.0, "stream_absent")
    ledger.mark(T + 20.0, "decoder")
    found = ledger.window(window(2, 21.0))
    assert rows(found) == [(3.0, 13.0, "stalled"), (13.0, 20.0, "stream_absent"), (20.0, 21.0, "decoder")]
    assert ledger.window(window(2, 21.0)) == [], "the same window again"
    assert ledger.window(window(3, 24.0)) == []


def test_a_cause_that_was_noted_a_little_too_early_counts_for_the_short_window_too() -> None:
    """What is heard of frames comes once a second; the last window of a killed process may be shorter."""
    ledger = Ledger("gate", LedgerState(), T)
    ledger.window(window(1, 0.0))
    ledger.mark(T + 2.5, "process_down")
    ledger.window(window(2, 3.0, 0.4))
    assert rows(ledger.window(window(3, 6.0))) == [(3.4, 6.0, "process_down")]


def test_an_old_cause_says_nothing_of_a_later_gap() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    ledger.window(window(1, 0.0))
    ledger.mark(T + 3.0, "process_down")
    ledger.window(window(2, 10.0))
    ledger.window(window(3, 13.0))
    assert rows(ledger.window(window(4, 20.0))) == [(16.0, 20.0, "stream_absent")]


def test_before_the_first_window_the_camera_is_missing_since_it_was_asked_for() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    ledger.mark(T, "stream_absent")
    assert rows(ledger.window(window(1, 7.5))) == [(0.0, 7.5, "stream_absent")]


def test_a_process_that_was_down_is_the_cause_since_it_was_last_alive() -> None:
    first = Ledger("gate", LedgerState(), T)
    first.window(window(1, 0.0))
    first.mark(T + 3.0, "stream_absent")
    state = LedgerState.model_validate_json(first.state(T + 8.0).model_dump_json())
    again = Ledger("gate", state, T + 60.0)
    assert rows(again.window(window(2, 61.0))) == [(3.0, 8.0, "stream_absent"), (8.0, 61.0, "process_down")]


def test_a_gap_that_lasts_has_a_row_without_an_end_and_keeps_its_name() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    ledger.window(window(1, 0.0))
    ledger.mark(T + 3.0, "stream_absent")
    assert ledger.open_gap(T + 10.0) == []
    [lasting] = ledger.open_gap(T + 40.0)
    assert rows([lasting]) == [(3.0, None, "stream_absent")]
    assert ledger.open_gap(T + 80.0) == [], "said once"
    [ended] = ledger.window(window(2, 100.0))
    assert rows([ended]) == [(3.0, 100.0, "stream_absent")]
    assert ended.path == lasting.path == "ledger/gaps/camera=gate/2023/11/14/20231114T221323.000Z-stream_absent.json"
    assert ended.seconds == pytest.approx(97.0)


def test_a_window_that_had_to_go_is_a_gap() -> None:
    ledger = Ledger("gate", LedgerState(), T)
    one = window(1, 0.0)
    ledger.window(one)
    assert rows([ledger.lost(one, "store_refused")]) == [(0.0, 3.0, "store_refused")]
