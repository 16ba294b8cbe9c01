"""A store with one watched talk, and the explorer's application over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.explorer import create_app
from tasks.core.schema import Result
from tasks.store import Store, open_store
from tests.browser import Page, browser, chromium
from tests.flows.explorer.stores import add_media, finder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def shown(store: Store, talk: Path) -> Result:
    """What the store has of the talk."""
    return add_media(store, talk)


@pytest.fixture
def open_client(store: Store, shown: Result) -> Callable[..., TestClient]:
    """`open_client(token=...)`: a client of the application, by default as a browser on the same machine sees it."""

    def make(base_url: str = "http://127.0.0.1:8710", **arguments: object) -> TestClient:
        return TestClient(create_app(store, finder(store), **arguments), base_url=base_url)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    binary = chromium()
    if binary is None:
        pytest.skip("no chromium on PATH")
    with browser(binary, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def client(open_client: Callable[..., TestClient]) -> TestClient:
    return open_client()
