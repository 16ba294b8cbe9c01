"""Every flow test has a store of its own; the API and the cluster (`engine`) are those of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.runs import Runs


@pytest.fixture
def runs(engine: None, tmp_path: Path) -> Runs:
    """Runs flows with the bundled models into a fresh store."""
    return Runs(str(tmp_path / "store"))
