"""`make audit` with the real pip-audit, on a database of the test's own that speaks OSV's protocol; and `make sbom`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.source_tree import ROOT

LOCK = ROOT / "requirements" / "lock.txt"
FLAW = "GHSA-aaaa-bbbb-cccc"
NAMES = ("httpx", "prefect", "starlette")


class _Database(BaseHTTPRequestHandler):
    asked: dict[str, str]
    flawed: str

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = query["package"]["name"], query["version"]
        self.asked[name] = version
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
        flaw = {
            "id": FLAW,
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "summary": "a flaw",
            "aliases": [],
            "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "versions": [version], "ranges": ranges}],
        }
        answer = json.dumps({"vulns": [flaw]} if name == self.flawed else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def database() -> Iterator[tuple[str, type[_Database]]]:
    handler = type("Database", (_Database,), {"asked": {}, "flawed": ""})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A few entries of the real one."""
    entries = re.findall(rf"^(?:{'|'.join(NAMES)})==.*(?:\n    --hash.*)+$", LOCK.read_text("utf-8"), re.MULTILINE)
    assert len(entries) == len(NAMES)
    path = tmp_path / "lock.txt"
    path.write_text("\n".join(entries) + "\n")
    return path


def audit(url: str, lock: Path, exceptions: str = "") -> subprocess.CompletedProcess[str]:
    (lock.parent / "exceptions.toml").write_text(exceptions)
    command = [sys.executable, "requirements/audit.py", "--osv-url", url, "--lock", str(lock)]
    command += ["--exceptions", str(lock.parent / "exceptions.toml")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)


def exception(
    package: str = "starlette", days: int = 30, reason: str = "only its router is flawed, which nobody reaches"
) -> str:
    until = datetime.now(UTC).date() + timedelta(days=days)
    return f'[{FLAW}]\npackage = "{package}"\nreason = "{reason}"\nuntil = {until}\n'


def test_every_locked_package_is_asked_about_and_a_flaw_ends_it(
    database: tuple[str, type[_Database]], lock: Path
) -> None:
    url, served = database
    clean = audit(url, lock)
    assert (clean.returncode, clean.stdout) == (0, "3 packages of this platform, 0 known flaws, 0 excused.\n"), (
        clean.stderr
    )
    assert {f"{name}=={version}" for name, version in served.asked.items()} == {
        line.split(" ;")[0] for line in lock.read_text().splitlines() if "==" in line and not line.startswith(" ")
    }
    served.flawed = "starlette"
    flawed = audit(url, lock)
    assert flawed.returncode == 1
    assert f"starlette {served.asked['starlette']}: {FLAW}, mended in 99.0" in flawed.stdout
    excused = audit(url, lock, exception())
    assert (excused.returncode, excused.stdout.split(", ")[1:]) == (0, ["0 known flaws", "1 excused.\n"]), (
        excused.stderr
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (exception(days=-1), "was excused until"),
        (exception("left-pad"), "not in the lock"),
        (exception(reason="harmless"), "must say why"),
        (f'[{FLAW}]\npackage = "httpx"\n', "wants exactly package, reason, until"),
    ],
)
def test_an_exception_without_a_reason_or_past_its_day_is_refused(lock: Path, wrong: str, said: str) -> None:
    done = audit("http://127.0.0.1:9/", lock, wrong)
    assert done.returncode == 2
    assert said in done.stderr


def test_no_answer_is_not_a_clean_one(database: tuple[str, type[_Database]], lock: Path) -> None:
    done = audit("http://127.0.0.1:9/v1/query", lock)
    assert done.returncode == 3
    assert done.stderr.startswith("NOT AUDITED, nothing is known about the 3 locked packages: ")
    assert not done.stdout


def test_the_exceptions_of_the_repository_are_in_order() -> None:
    """A wrong list ends it before the database is asked; here there is none."""
    command = [sys.executable, "requirements/audit.py", "--osv-url", "http://127.0.0.1:9/v1/query"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 3, done.stderr


@pytest.mark.slow
def test_the_bill_of_materials_is_the_lock(tmp_path: Path) -> None:
    """Validated against CycloneDX's schema by the tool that writes it."""
    [line] = re.findall(r"\$\(PY\) -m (cyclonedx_py .*) --output-file", (ROOT / "Makefile").read_text("utf-8"))
    command = [sys.executable, "-m", *line.split(), "--output-file", str(tmp_path / "sbom.json"), str(LOCK)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "sbom.json").read_text("utf-8"))
    text = LOCK.read_text("utf-8")
    assert {part["purl"] for part in bill["components"]} == {
        f"pkg:pypi/{name}@{version}" for name, version in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE)
    }
    hashes = {h["content"] for part in bill["components"] for r in part["externalReferences"] for h in r["hashes"]}
    assert hashes == set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    assert bill["metadata"]["component"]["name"] == "reelflow"
