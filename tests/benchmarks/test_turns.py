"""Sides take turns, the first round does not count, and every output is checked."""

from __future__ import annotations

import time

import pytest

from benchmarks._turns import Side, Times, Took, alternate, timed


def test_sides_take_turns_in_changing_order_and_the_first_round_does_not_count() -> None:
    ran: list[str] = []
    checked: list[tuple[str, str]] = []

    def side(name: str) -> Side[str]:
        def run() -> str:
            ran.append(name)
            return name.upper()

        return Side(run, lambda: ran.append(f"prepare {name}"))

    times = alternate({"a": side("a"), "b": side("b")}, 2, lambda name, output: checked.append((name, output)))
    rounds = [["b", "a"], ["a", "b"], ["b", "a"]]
    assert [name for name in ran if not name.startswith("prepare")] == [name for order in rounds for name in order]
    assert ran[:4] == ["prepare b", "b", "prepare a", "a"]
    assert len(checked) == 6
    assert all(output == name.upper() for name, output in checked)
    assert [len(took.rounds) for took in times.values()] == [2, 2]


def test_a_wrong_output_ends_the_measurement() -> None:
    def check(name: str, output: int) -> None:
        assert output == 1, f"{name} is wrong"

    with pytest.raises(AssertionError, match="b is wrong"):
        alternate({"a": Side(lambda: 1), "b": Side(lambda: 2)}, 1, check)


def test_ratios_are_medians_of_rounds_that_were_neighbours() -> None:
    slow = Times([Took(2.0, 1.0), Took(40.0, 8.0), Took(3.0, 1.0)])
    fast = Times([Took(1.0, 1.0), Took(10.0, 2.0), Took(1.0, 2.0)])
    assert (slow.wall_s, slow.cpu_s) == (3.0, 1.0)
    assert slow.wall_ratio(fast) == 3.0
    assert slow.cpu_ratio(fast) == 1.0


def test_waiting_costs_time_and_no_cpu() -> None:
    output, took = timed(lambda: time.sleep(0.05))
    assert output is None
    assert took.wall_s >= 0.05
    assert took.cpu_s < took.wall_s
