"""One Prefect API and one Dask cluster for the flow tests of a process; every test has a store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.runs import Runs
from tests.prefect_home import new_prefect_home, use_prefect_home


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server with a database of its own, and a local cluster of two workers."""
    home = new_prefect_home(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        use_prefect_home(patch, home)
        patch.delenv("REELFLOW_DASK_ADDRESS", raising=False)
        patch.setenv("REELFLOW_WORKERS", "2")
        patch.setenv("REELFLOW_CACHE_DIR", str(home / "cache"))
        from flows.run import engine as started

        with started():
            yield


@pytest.fixture
def runs(engine: None, tmp_path: Path) -> Runs:
    """Runs flows with the bundled models into a fresh store."""
    return Runs(str(tmp_path / "store"))
