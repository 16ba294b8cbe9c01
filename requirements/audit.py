"""Known flaws of the locked packages, as OSV's database has them, less what exceptions.toml explains.

    python requirements/audit.py [--osv-url URL]

Exit status: 0 none is known, 1 some are, 2 exceptions.toml is wrong, 3 not audited: the database gave no answer. The
third is not the first: no list of flaws comes with the packages, so without a network nothing is known about them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
LOCK = FOLDER / "lock.txt"
EXCEPTIONS = FOLDER / "exceptions.toml"

CLEAN, FLAWED, WRONG, NOT_AUDITED = range(4)

KEYS = {"package": str, "reason": str, "until": date}
REASON_CHARACTERS = 30
"""A reason that is shorter explains nothing."""


def faults(exceptions: dict[str, Any], locked: set[str], today: date) -> list[str]:
    """What is wrong with a list of exceptions, one sentence each."""
    found = []
    for name, entry in exceptions.items():
        if not isinstance(entry, dict) or set(entry) != set(KEYS):
            found.append(f"{name} wants exactly {', '.join(KEYS)}.")
            continue
        if wrong := [key for key, kind in KEYS.items() if type(entry[key]) is not kind]:
            found.append(f"{name}: {', '.join(wrong)} is of another type.")
            continue
        if entry["package"] not in locked:
            found.append(f"{name}: {entry['package']} is not in the lock any more; delete the exception.")
        if len(entry["reason"]) < REASON_CHARACTERS:
            found.append(f"{name}: the reason must say why the flaw does no harm here.")
        if entry["until"] < today:
            found.append(f"{name} was excused until {entry['until']}: look again.")
    return found


def main() -> int:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--osv-url", help="another database that speaks OSV's protocol", default=None)
    arguments.add_argument("--lock", type=Path, default=LOCK)
    arguments.add_argument("--exceptions", type=Path, default=EXCEPTIONS)
    given = arguments.parse_args()
    locked = set(re.findall(r"^([a-z0-9-]+)==", given.lock.read_text("utf-8"), re.MULTILINE))
    exceptions = tomllib.loads(given.exceptions.read_text("utf-8"))
    if wrong := faults(exceptions, locked, datetime.now(UTC).date()):
        print("\n".join(wrong), file=sys.stderr)
        return WRONG
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(given.lock), "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command += ["--osv-url", given.osv_url] if given.osv_url else []
    command += [word for name in exceptions for word in ("--ignore-vuln", name)]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"NOT AUDITED, nothing is known about the {len(locked)} locked packages: {reason}", file=sys.stderr)
        return NOT_AUDITED
    if left_out := [package for package in packages if "skip_reason" in package]:
        print(f"NOT AUDITED: {', '.join(package['name'] for package in left_out)}", file=sys.stderr)
        return NOT_AUDITED
    flaws = [(package, flaw) for package in packages for flaw in package["vulns"]]
    for package, flaw in flaws:
        mended = f", mended in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else ""
        print(f"{package['name']} {package['version']}: {flaw['id']}{mended}")
    print(f"{len(packages)} packages of this platform, {len(flaws)} known flaws, {len(exceptions)} excused.")
    return FLAWED if flaws else CLEAN


if __name__ == "__main__":
    sys.exit(main())
