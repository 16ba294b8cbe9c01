"""A decoder that hostile media took over tries all doors: one that runs our code, and one that is a program."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.sandbox import confine, landlock, seccomp
from tasks.core.sandbox.children import Bounds, Finished, run_module, run_program
from tests.security import attacks

ROOMY = Bounds(wall_s=30, cpu_s=20)
SECRET = "planted-9f2c"

needs_landlock = pytest.mark.skipif(not landlock.version(), reason=f"this kernel has none: {landlock.missing()}")
needs_tcp = pytest.mark.skipif(
    landlock.version() < 4 and bool(seccomp.missing()), reason="this kernel closes no sockets"
)
needs_seccomp = pytest.mark.skipif(bool(seccomp.missing()), reason=f"this kernel has none: {seccomp.missing()}")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")


def as_module(*plan: tuple[str, ...], bounds: Bounds = ROOMY, writes: tuple[Path, ...] = ()) -> Finished:
    return run_module("tests.security.attacks", list(map(json.dumps, plan)), bounds, writes=writes)


def as_program(*plan: tuple[str, ...], bounds: Bounds = ROOMY, writes: tuple[Path, ...] = ()) -> Finished:
    code = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    script = Path(attacks.__file__)
    command = [os.path.realpath(sys.executable), "-I", str(script), *map(json.dumps, plan)]
    return run_program(command, bounds, reads=[*code, script], writes=writes)


KINDS = pytest.mark.parametrize("run", [as_module, as_program])


def outcomes(done: Finished) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(done: Finished, *reasons: str) -> None:
    """Every attack of the plan came to nothing, and for one of these reasons."""
    found = outcomes(done)
    assert found
    for one in found:
        assert "got" not in one
        assert any(reason in one["failed"] for reason in reasons), one


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that holds a secret in its environment, as a server of the stack does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"KEY": SECRET}) as process:
        yield process
        process.kill()


@pytest.fixture
def listener() -> Iterator[int]:
    """Port of a server on loopback that greets whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        threading.Thread(target=greet, daemon=True).start()
        yield int(server.getsockname()[1])


def test_the_attacks_work_where_nothing_confines(
    tmp_path: Path, listener: int, victim: subprocess.Popen[bytes]
) -> None:
    """Or else their failures would say nothing."""
    held = ctypes.create_string_buffer(SECRET.encode())
    key = tmp_path / "key"
    key.write_text(SECRET)
    plan: list[tuple[str, ...]] = [
        ("read_file", str(key)),
        ("write_file", str(tmp_path / "new")),
        ("change_mode", str(key)),
        ("connect", str(listener)),
        ("start_program", shutil.which("true") or "/bin/true"),
        ("signal_to", str(victim.pid)),
        ("leave_grandchild", str(tmp_path / "alive"), "0"),
    ]
    if sys.platform == "linux":
        plan += [("environment_of", str(victim.pid))]
    done = subprocess.run(
        [sys.executable, attacks.__file__, *map(json.dumps, plan)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("got" in one for one in found), found
    assert held.value.decode() == SECRET


@KINDS
def test_the_environment_is_bare(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "HF_TOKEN", "REELFLOW_STORE", "HOME"):
        monkeypatch.setenv(name, SECRET)
    done = run(("own_environment",))
    assert SECRET not in done.stdout.decode()


@needs_linux
@needs_landlock
@KINDS
def test_no_other_process_is_read(run: Any, victim: subprocess.Popen[bytes]) -> None:
    held = ctypes.create_string_buffer(SECRET.encode())
    here, at = str(os.getpid()), str(ctypes.addressof(held))
    done = run(
        ("environment_of", here),
        ("environment_of", str(victim.pid)),
        ("memory_of", here, at),
        ("memory_call", here, at),
        ("attach", here),
        ("list_folder", "/proc"),
    )
    refused(done, "PermissionError")


@needs_linux
def test_without_landlock_this_process_still_hides_its_memory() -> None:
    """Another process of this user with no more privileges than a child has reads neither it nor its environment."""
    code = """
import ctypes, os, sys
from tasks.core.sandbox import confine
from tasks.core.sandbox.children import Bounds, run_module
run_module("tests.security.attacks", [], Bounds(20, 20))
pid = os.getpid()
child = os.fork()
if not child:
    confine._drop_capabilities()
    try:
        print(open(f"/proc/{pid}/environ", "rb").read())
    except PermissionError:
        print("refused")
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "refused\n"


@needs_landlock
@KINDS
def test_no_other_file_is_read_or_changed(run: Any, tmp_path: Path) -> None:
    key, scratch = tmp_path / "key", tmp_path / "scratch"
    key.write_text(SECRET)
    key.chmod(0o640)
    scratch.mkdir()
    (scratch / "link").symlink_to(key)
    done = run(
        ("read_file", str(key)),
        ("read_file", str(scratch / "link")),
        ("read_file", f"/proc/self/root{key}"),
        ("read_file", "/etc/passwd"),
        ("list_folder", str(tmp_path)),
        ("write_file", str(key)),
        ("write_file", str(tmp_path / "new")),
        ("change_mode", str(key)),
        writes=(scratch,),
    )
    refused(done, "PermissionError")
    assert key.read_text() == SECRET
    assert key.stat().st_mode & 0o777 == 0o640


@KINDS
def test_the_scratch_folder_can_be_written(run: Any, tmp_path: Path) -> None:
    done = run(("write_file", str(tmp_path / "new")), ("read_file", str(tmp_path / "new")), writes=(tmp_path,))
    assert [one.get("got") for one in outcomes(done)] == ["written", "owned"]


@needs_tcp
@KINDS
def test_there_is_no_network(run: Any, listener: int, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        done = run(("connect", str(listener)), ("connect_unix", str(tmp_path / "s")), writes=(tmp_path,))
    refused(done, "PermissionError")


@needs_seccomp
@KINDS
def test_no_process_is_made_or_reached(run: Any, tmp_path: Path, victim: subprocess.Popen[bytes]) -> None:
    done = run(
        ("leave_grandchild", str(tmp_path / "alive"), "0"),
        ("start_program", shutil.which("true") or "/bin/true"),
        ("become_program", shutil.which("true") or "/bin/true"),
        ("signal_to", str(os.getpid())),
        ("signal_to", str(victim.pid)),
        ("escape_limit_of", str(victim.pid)),
        ("new_namespace",),
        ("ring",),
        writes=(tmp_path,),
    )
    refused(done, "PermissionError", "Function not implemented")
    assert not (tmp_path / "alive").exists()


@needs_linux
def test_a_grandchild_ends_with_its_child_even_without_seccomp(tmp_path: Path) -> None:
    """One that left the group and has another parent; the process that children are forked from is its last."""
    code = f"""
import json, sys
from pathlib import Path
from tasks.core.sandbox import children
children.START = children.START.replace("main(", "from tasks.core.sandbox import seccomp; "
    "seccomp.missing = lambda: 'in this test'; main(", 1)
done = children.run_module("tests.security.attacks",
    [json.dumps(["leave_grandchild", {str(tmp_path / "alive")!r}, "1.5"])],
    children.Bounds(20, 20), writes=[Path({str(tmp_path)!r})])
print(done.stdout.decode(), done.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert '"got": "left"' in done.stdout
    time.sleep(2.5)
    assert not (tmp_path / "alive").exists()


@KINDS
def test_limits_are_not_raised(run: Any) -> None:
    refused(run(("raise_limits",)), "PermissionError", "ValueError")


@KINDS
def test_memory_disk_and_time_are_bounded(run: Any, tmp_path: Path) -> None:
    small = Bounds(wall_s=30, cpu_s=2, memory_bytes=2**30, file_bytes=2**22)
    refused(run(("allocate", str(2**30)), bounds=small), "MemoryError")
    done = run(("fill_disk", str(tmp_path / "big"), str(2**24)), bounds=small, writes=(tmp_path,))
    assert done.exceeded == "file size" or b"File too large" in done.stdout
    assert (tmp_path / "big").stat().st_size <= 2**22
    done = run(("burn",), bounds=Bounds(wall_s=0.5, cpu_s=20))
    assert done.exceeded == "time"
    assert done.wall_s < 5


def test_a_child_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """A worker that is killed leaves no decoder behind."""
    code = f"""
import json
from pathlib import Path
from tasks.core.sandbox.children import Bounds, run_module
run_module("tests.security.slow_writer", [{str(tmp_path / "beat")!r}], Bounds(60, 60), writes=[Path({str(tmp_path)!r})])
"""
    asking = subprocess.Popen([sys.executable, "-c", code])
    beat = tmp_path / "beat"
    deadline = time.monotonic() + 20
    while not beat.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    asking.kill()
    asking.wait()
    time.sleep(0.5)
    said = beat.read_text()
    time.sleep(0.5)
    assert beat.read_text() == said


def test_what_a_host_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(seccomp, "missing", lambda: "this kernel is built without seccomp")
    said = " ".join(confine.lacking())
    assert "no Landlock" in said
    assert "built without seccomp" in said
