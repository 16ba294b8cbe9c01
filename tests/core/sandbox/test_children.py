"""Children: what they leave, what they took, and what becomes of the process that they are forked from.

What they are kept from is in tests/security.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.sandbox import children
from tasks.core.sandbox.children import Bounds, Finished, child_cpu_s, run_module, run_program

ROOMY = Bounds(wall_s=30, cpu_s=20)


def python(code: str, bounds: Bounds = ROOMY) -> Finished:
    """Runs a Python program in a confined child."""
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return run_program([os.path.realpath(sys.executable), "-I", "-c", code], bounds, reads=folders)


def test_memory_is_bounded() -> None:
    done = python("bytearray(1 << 30)", Bounds(30, 20, memory_bytes=2**29))
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_cpu_time_is_bounded() -> None:
    done = python("while True: pass", Bounds(wall_s=60, cpu_s=1))
    assert done.exceeded == "time"
    assert done.cpu_s < 4


def test_wall_time_is_bounded() -> None:
    done = python("import time; time.sleep(60)", Bounds(wall_s=0.5, cpu_s=20))
    assert done.exceeded == "time"
    assert done.wall_s < 30


def test_stderr_keeps_its_first_and_last_lines() -> None:
    done = python(
        "import sys\nprint('first', file=sys.stderr)\nprint('x\\n' * 10**6, file=sys.stderr)\nsys.exit('last')"
    )
    assert done.stderr.startswith("first")
    assert done.stderr.rstrip().endswith("last")
    assert len(done.stderr) < 20_000


def test_stdout_is_bounded() -> None:
    assert python("while True: print('x' * 1000)").exceeded == "output"


def test_a_program_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    done = run_program([str(tmp_path / "gone")], ROOMY)
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_peak_memory_is_the_childs_own() -> None:
    """Not that of a worker of half a gigabyte that asked for it."""
    held = b"x" * 200_000_000
    small, large = (python(f"b'x' * {size}").peak_bytes for size in (0, 100_000_000))
    assert small < 60e6 < len(held)
    assert 100e6 < large < 170e6


def test_cpu_time_of_children_is_counted() -> None:
    before = child_cpu_s()
    done = python("sum(range(5 * 10**6))")
    assert done.cpu_s > 0.02
    assert child_cpu_s() - before == pytest.approx(done.cpu_s)


def test_many_at_a_time() -> None:
    def one(number: int) -> bytes:
        return python(f"print({number})").stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [b"%d\n" % number for number in range(24)]


def test_a_module_that_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(OSError, match="nowhere cannot be imported"):
        run_module("tests.core.sandbox.nowhere", [], ROOMY)
    assert python("print(1)").stdout == b"1\n"


def test_it_is_started_again_when_someone_killed_it() -> None:
    assert python("print(1)").stdout == b"1\n"
    killed = children._starter()._process
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert python("print(2)").stdout == b"2\n"


def test_a_forked_process_has_one_of_its_own() -> None:
    assert python("print(1)").stdout == b"1\n"
    child = os.fork()
    if not child:
        os._exit(0 if children._one is None and python("print(2)").stdout == b"2\n" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert python("print(3)").stdout == b"3\n"
