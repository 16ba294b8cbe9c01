"""The pages still have what their pictures show: else `make pictures` takes them again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from flows.explorer import create_app
from tasks.core.publish.report import report
from tasks.store import open_store
from tests import pictures
from tests.browser import Page, browser, chromium
from tests.core.publish.results import result
from tests.flows.explorer.stores import add_media, finder, served
from tests.flows.explorer.tab import Tab

MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    binary = chromium()
    if binary is None:
        pytest.skip("no chromium on PATH")
    with browser(binary, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def missing(page: Page, picture: pictures.Picture) -> list[str]:
    return [part for part in picture.parts if not pictures.in_window(page, part)]


def test_the_report_has_what_its_picture_shows(page: Page, tmp_path: Path, talk: Path) -> None:
    (tmp_path / "report.html").write_text(report(result(notice="a demonstration"), player=talk, peaks=[0.5]), "utf-8")
    page.open(tmp_path / "report.html", width=pictures.WIDTH, height=pictures.REPORT.height)
    assert missing(page, pictures.REPORT) == []
    page.run("document.querySelector('#timeline').remove()")
    assert missing(page, pictures.REPORT) == ["#timeline .lane"]


def test_the_explorer_has_what_its_picture_shows(
    page: Page, tmp_path: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELFLOW_CACHE_DIR", str(tmp_path / "cache"))
    store = open_store(str(tmp_path / "store"))
    add_media(store, talk)
    with served(create_app(store, finder(store))) as base:
        Tab(page, base).open("/?q=three", width=pictures.WIDTH, height=pictures.EXPLORER.height)
        page.wait("document.querySelector('.card img')?.naturalWidth")
        assert missing(page, pictures.EXPLORER) == []


@pytest.mark.parametrize("picture", [pictures.REPORT, pictures.EXPLORER], ids=lambda picture: picture.name)
def test_a_picture_is_small_and_as_high_as_it_says(picture: pictures.Picture) -> None:
    file = pictures.FOLDER / picture.name
    assert file.stat().st_size < MOST_BYTES
    with Image.open(file) as image:
        assert image.size == (pictures.WIDTH, picture.height)
