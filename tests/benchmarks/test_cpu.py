"""CPU time of processes that processes started."""

from __future__ import annotations

import subprocess
import sys

from benchmarks._cpu import processor_seconds

BURNS = """
import time
while time.process_time() < 0.5:
    pass
print("burnt", flush=True)
input()
"""
STARTS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURNS!r}])"


def test_work_of_a_child_of_a_child_counts_while_it_lives() -> None:
    before = processor_seconds()["workers"]
    with subprocess.Popen([sys.executable, "-c", STARTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"burnt\n"
        after = processor_seconds()["workers"]
        child.communicate(b"\n")
    assert after - before >= 0.5
