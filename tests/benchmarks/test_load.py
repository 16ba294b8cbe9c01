"""Sending a workload to a target that is made up, the clip that requests carry, and the command line."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterable
from pathlib import Path

import av
import pytest

from benchmarks import load
from benchmarks._clip import SECONDS, clip
from benchmarks._latency import read_levels
from benchmarks._targets import Sent, Ticket, offer
from benchmarks._workload import Workload
from benchmarks.imports import split
from tests.benchmarks.test_latency import users


class Fake:
    """Takes every request for a moment; refuses and forgets those that it is told to."""

    def __init__(self, each_s: float = 0.01, refuses: str = "", forgets: str = "") -> None:
        self.each_s, self.refuses, self.forgets = each_s, refuses, forgets
        self.running = self.most = 0
        self.came: list[tuple[float, str]] = []
        self.given_up: list[Ticket] = []

    async def send(self, source: str) -> Ticket:
        self.came.append((time.time(), source))
        if source == self.refuses:
            raise ConnectionError("nobody is there")
        ticket = Ticket()
        if source != self.forgets:
            self.running += 1
            self.most = max(self.most, self.running)
            asyncio.get_running_loop().call_later(self.each_s, self._end, ticket)
        return ticket

    def _end(self, ticket: Ticket) -> None:
        self.running -= 1
        ticket.ended.set()

    async def give_up(self, tickets: Iterable[Ticket]) -> None:
        self.given_up += tickets


def offered(workload: Workload, target: Fake, seconds: float = 5.0, patience_s: float = 5.0) -> list[Sent]:
    clips = [Sent(number, "", f"clip {number}") for number in range(workload.count)]
    heard: list[int] = []
    sent = asyncio.run(offer(workload, target, clips, heard.append, seconds=seconds, patience_s=patience_s))
    assert heard == sorted(heard)
    return sent


def test_a_closed_loop_keeps_so_many_in_flight_and_no_more() -> None:
    target = Fake()
    sent = offered(Workload("closed", 20, concurrency=4), target)
    assert target.most == 4
    assert [source for _, source in target.came] == [f"clip {number}" for number in range(20)]
    assert all(one.ticket and one.ticket.ended.is_set() and one.accepted for one in sent)


def test_a_closed_loop_sends_nothing_after_its_time() -> None:
    sent = offered(Workload("closed", 1000, concurrency=1), Fake(each_s=0.05), seconds=0.2)
    assert 2 <= len(sent) <= 6


def test_an_open_pattern_does_not_wait_for_answers() -> None:
    target = Fake(each_s=0.5)
    sent = offered(Workload("burst", 6, rate=30.0, concurrency=3), target)
    assert target.most == 6
    assert sent[3].arrived - sent[0].arrived == pytest.approx(0.1, abs=0.001)
    assert target.came[3][0] - target.came[0][0] >= 0.09


def test_who_is_refused_or_forgotten_is_told_apart() -> None:
    target = Fake(refuses="clip 1", forgets="clip 2")
    sent = offered(Workload("steady", 4, rate=100.0), target, patience_s=0.3)
    assert [bool(one.refusal) for one in sent] == [False, True, False, False]
    assert "nobody is there" in sent[1].refusal
    assert target.given_up == [sent[2].ticket]
    assert sent[3].ticket is not None
    assert sent[3].ticket.ended.is_set()


def test_no_two_clips_have_the_same_bytes_and_all_play() -> None:
    one, other = clip(), clip()
    assert one != other
    assert len(one) == len(other)
    with av.open(io.BytesIO(other), "r") as media:
        last = [frame.time for frame in media.decode(video=0)][-1]
    assert last == pytest.approx(SECONDS, abs=0.2)


def test_imports_are_counted_by_package_and_process() -> None:
    log = """some words
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   torch._C
import time:      1000 |       1100 | torch
12:00 | INFO | import time: self [us] | cumulative | imported package
import time:        50 |         50 | prefect.flows
"""
    assert split(log) == [{"torch": pytest.approx(0.0011)}, {"prefect": pytest.approx(0.00005)}]


def test_kept_requests_are_read_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, drawn = tmp_path / "kept.jsonl", tmp_path / "load.html"
    kept.write_text("".join(users(count).model_dump_json() + "\n" for count in (1, 2, 4)))
    load.main(["--read", str(kept), "--page", str(drawn)])
    assert "Growth with concurrency" in capsys.readouterr().out
    assert drawn.read_text().lstrip().startswith("<!doctype html>")
    assert len(read_levels(kept)) == 3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(["--count", "0"], "count"), (["--rate", "-1", "--pattern", "steady"], "rate"), (["--limit", "0"], "limit")],
)
def test_a_value_that_makes_no_load_is_a_usage_error(
    wrong: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        load.main(wrong)
    assert raised.value.code == 2
    assert named in capsys.readouterr().err


def test_a_file_of_another_kind_is_no_record_of_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.jsonl").write_text('{"name": "decode"}\n')
    with pytest.raises(SystemExit) as raised:
        load.main(["--read", str(tmp_path / "other.jsonl")])
    assert raised.value.code == 1
    assert "--read" in capsys.readouterr().err
