from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._latency import (
    DONE,
    VCPU_HOUR_USD,
    Level,
    Request,
    Span,
    failures,
    growth,
    in_system,
    p95,
    read_levels,
    stages,
    summary,
    write_levels,
)
from benchmarks._load_page import page
from benchmarks._load_tables import tables

ATTACK = "<script>alert(1)</script>"


def request(number: int, arrived: float, ended: float | None = None, **more: object) -> Request:
    """A request that waited half of its time, started up in a tenth of a second, and ran for the rest."""
    known: dict[str, object] = {"number": number, "arrived": arrived, "accepted": arrived, "status": "unfinished"}
    if ended is not None:
        taken = arrived + (ended - arrived) / 2
        spans = (Span(stage="fetch", start=taken + 0.2, end=taken + 0.4, cpu_s=0.1, queue_s=0.05),)
        known |= {"taken": taken, "started": taken + 0.1, "ended": ended, "status": DONE, "stages": spans}
        known |= {"media_s": 5.0, "cost_usd": 1e-6}
    return Request.model_validate(known | more)


def level(requests: list[Request], concurrency: int = 1, **more: object) -> Level:
    known = {"label": f"closed {concurrency}", "pattern": "closed", "target": "served", "regime": "warm", "rate": 1.0}
    known |= {"concurrency": concurrency, "seed": 1, "cores": 2, "cpu_s": {"server": 1.0, "flow": 3.0}}
    return Level.model_validate(known | {"requests": requests} | more)


def users(count: int, each_s: float = 1.0, rounds: int = 4) -> Level:
    """A closed loop on one server that takes `each_s` for each request, first come first served."""
    return level(
        [request(n, max(0.0, (n + 1 - count) * each_s), (n + 1) * each_s) for n in range(count * rounds)], count
    )


def test_latency_counts_from_arrival_and_throughput_from_first_to_last() -> None:
    found = summary(level([request(0, 100.0, 102.0), request(1, 101.0, 105.0)]))
    assert found["latency median s"] == pytest.approx(3.0)
    assert found["latency p95 s"] == pytest.approx(2.0 + 0.95 * 2.0)
    assert found["queue median s"] == pytest.approx(1.5)
    assert found["start-up median s"] == pytest.approx(0.1)
    assert found["run median s"] == pytest.approx(1.4)
    assert found["done/s"] == pytest.approx(2 / 5)
    assert found["CPU s/request"] == pytest.approx(2.0)


def test_what_did_not_succeed_counts_against_success_and_throughput() -> None:
    requests = [request(0, 0.0, 2.0), request(1, 0.0, 4.0, status="wrong", reason="heard ''"), request(2, 0.0)]
    failed = level(requests)
    found = summary(failed)
    assert found["success %"] == pytest.approx(100 / 3)
    assert found["done/s"] == pytest.approx(1 / 4)
    assert failures([failed]) == [("closed 1", "wrong", "heard ''", 1), ("closed 1", "unfinished", "", 1)]


def test_cost_is_told_for_an_hour_of_media() -> None:
    found = summary(level([request(0, 0.0, 10.0)]))
    assert found["stages $/media hour"] == pytest.approx(1e-6 * 3600 / 5.0)
    assert found["machine $/media hour"] == pytest.approx(2 * 10.0 / 5.0 * VCPU_HOUR_USD)


def test_a_level_in_which_nothing_ended_has_no_latency() -> None:
    found = summary(level([request(0, 0.0)]))
    assert found["latency median s"] is None
    assert found["success %"] == 0
    assert found["done/s"] == 0


def test_time_between_stages_is_what_none_of_them_covers() -> None:
    spans = [Span(stage=s, start=a, end=b) for s, a, b in (("a", 1.0, 3.0), ("b", 2.0, 4.0), ("c", 6.0, 7.0))]
    found = request(0, 0.0, 10.0, started=0.0, stages=tuple(spans))
    assert found.between_s == pytest.approx(10.0 - 3.0 - 1.0)


def test_stages_are_in_the_order_of_their_beginning() -> None:
    spans = (Span(stage="late", start=15.0, end=16.0), Span(stage="early", start=12.0, end=14.5, cpu_s=2.0))
    found = stages(level([request(0, 10.0, 20.0, started=11.0, stages=spans)]))
    assert list(found) == ["early", "late"]
    assert found["early"]["starts at s"] == pytest.approx(1.0)
    assert found["early"]["wall s"] == pytest.approx(2.5)
    assert found["early"]["CPU s"] == pytest.approx(2.0)


def test_a_saturated_server_grows_linearly() -> None:
    """Each request waits for all others: p95 is proportional to the users, throughput stays."""
    levels = [users(count) for count in (2, 4, 8, 16)]
    assert [round(found.throughput, 6) for found in levels] == [1.0] * 4
    assert p95(levels[-1]) == pytest.approx(16.0)
    first, *exponents = growth(levels)
    assert first is None
    assert exponents == pytest.approx([1.0] * 3, abs=0.05)


def test_in_system_adds_up() -> None:
    changes = in_system(level([request(0, 0.0, 4.0), request(1, 1.0, 3.0), request(2, 1.5)]))
    assert changes[-1] == (4.0, 1, 0)
    assert max(waiting for _, waiting, _ in changes) == 3
    assert [at for at, _, _ in changes] == sorted(at for at, _, _ in changes)


def test_levels_are_kept_and_added(tmp_path: Path) -> None:
    kept = tmp_path / "load.jsonl"
    write_levels(kept, [users(2)])
    write_levels(kept, [users(4), level([request(0, 0.0)])])
    assert read_levels(kept) == [users(2), users(4), level([request(0, 0.0)])]


def test_tables_are_made_for_each_pattern_and_target() -> None:
    steady = level([request(0, 0.0, 1.0)], label="steady 1/s", pattern="steady")
    titles = [table.title for table in tables([users(2), users(4), steady])]
    assert titles == [
        "Latency: closed, served (warm)",
        "Growth with concurrency",
        "Latency: steady, served (warm)",
        "Time by stage",
        "CPU seconds per request, by part",
        "Beside an earlier system",
    ]


def test_the_page_is_whole_and_shows_no_reason_as_markup() -> None:
    crashed = level([request(0, 0.0, 2.0), request(1, 0.0, 3.0, status="crashed", reason=ATTACK)], label=ATTACK)
    text = page([users(2), users(4), crashed], {"processor": ATTACK})
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert "http://" not in text
    assert "https://" not in text
    for caption in ("Throughput", "Distribution of latency", "CPU per request, by part", "Each request"):
        assert caption in text
