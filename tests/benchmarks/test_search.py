"""The search benchmark, small: it builds, asks and checks as it does with a million vectors."""

from __future__ import annotations

import json

import pytest

from benchmarks import search


def test_every_sort_of_question_is_answered_and_recall_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    search.main(["--frames", "4000", "--segments", "400", "--sizes", "32", "--copies", "0", "--json"])
    tables = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:]
    [built] = tables[0]["rows"]
    assert built["recall@10"] >= search.LEAST_RECALL
    assert [row["question"] for row in tables[1]["rows"]][:2] == ["a rare word", "a frequent word"]
    assert len(tables[1]["rows"]) == 8
