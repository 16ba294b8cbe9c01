"""A Prefect of its own for the tests of a process."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATABASE = "prefect.db"


def use_prefect_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Prefect's files and database in this folder, and no API of the user's."""
    patch.setenv("PREFECT_HOME", str(home))
    patch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{home}/{DATABASE}")
    patch.delenv("PREFECT_API_URL", raising=False)


def environment_of(home: Path) -> dict[str, str]:
    """For a command with this Prefect home: no API and no database of the user or of the tests of this process."""
    other = ("PREFECT_API_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    return {k: v for k, v in os.environ.items() if k not in other} | {"PREFECT_HOME": str(home)}


def new_prefect_home(factory: pytest.TempPathFactory) -> Path:
    """An empty home whose database has its tables: Prefect's hundred migrations run once for all tests."""
    home = factory.mktemp("prefect")
    shutil.copy(_migrated(factory), home / DATABASE)
    return home


def _migrated(factory: pytest.TempPathFactory) -> Path:
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / "migrated"
    with (shared / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            making = shared / "migrating"
            kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
            environment = kept | {"PREFECT_HOME": str(making), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
            upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            subprocess.run(upgrade, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=180)
            making.rename(made)
    return made / DATABASE
