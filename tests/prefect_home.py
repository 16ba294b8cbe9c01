"""A Prefect of its own for the tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest


def use_prefect_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Prefect's files and database in this folder, and no API of the user's."""
    patch.setenv("PREFECT_HOME", str(home))
    patch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{home}/prefect.db")
    patch.delenv("PREFECT_API_URL", raising=False)
