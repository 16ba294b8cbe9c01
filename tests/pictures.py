"""Pictures of the report and of the explorer, from the bundled sample: `make pictures`, `python -m tests.pictures`.

`test_pictures.py` fails when a page no longer has a part that its picture shows: then take them again and look at them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from flows.cli.find import Finder
from flows.explorer import create_app
from tasks.core.search import Query
from tasks.store import open_store
from tests.browser import Page, browser, chromium
from tests.flows.explorer.stores import served
from tests.flows.explorer.tab import Tab
from tests.prefect_home import environment_of
from tests.source_tree import ROOT

FOLDER = ROOT / "docs" / "pictures"
WIDTH = 1280
QUALITY = 80
LOOK_AT_S = 6.0
"""A moment of the sample at which something is said and two shapes are seen."""


@dataclass(frozen=True)
class Picture:
    """A picture in docs/pictures, its height in pixels, and CSS selectors of the parts of the page that it shows."""

    name: str
    height: int
    parts: tuple[str, ...]


REPORT = Picture(
    "report.webp",
    1180,
    (".notice", ".figures div", "#media", "#boxes", "#controls", "#show-boxes", "#segments button", "#timeline .lane"),
)
EXPLORER = Picture(
    "explorer.webp",
    720,
    ("#q", ".chips span", "#toggle", "#heading", ".card img", ".card .why", ".card .of"),
)


def take(shown: Page, picture: Picture, folder: Path) -> None:
    """Writes the picture of the page. Raises RuntimeError for a part that is not in the window."""
    if hidden := [part for part in picture.parts if not in_window(shown, part)]:
        raise RuntimeError(f"{picture.name}: the page does not show {', '.join(hidden)}")
    shown.screenshot(folder / "page.png", whole=False)
    with Image.open(folder / "page.png") as whole:
        whole.convert("RGB").save(FOLDER / picture.name, "WEBP", quality=QUALITY, method=6)


def in_window(shown: Page, part: str) -> bool:
    """Does some element of the page that the selector finds lie in the window, and take room there?"""
    return bool(
        shown.run(
            f"[...document.querySelectorAll({part!r})].some((each) => {{ const box = each.getBoundingClientRect();"
            " return box.width && box.height && box.top < innerHeight && box.bottom > 0; })"
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="folder that holds the result of the demo alone [default: made]")
    given = parser.parse_args().store
    binary = chromium()
    if binary is None:
        sys.exit("pictures: no chromium or google-chrome on PATH (Debian: apt-get install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        store = given or work / "store"
        if given is None:
            environment = environment_of(work / "prefect")
            command = [sys.executable, "-m", "flows", "demo", "--store", str(store)]
            subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
        [report] = store.glob("media/*/report.html")
        shutil.copy(report, work / "report.html")
        with browser(binary, work / "profile", timeout_s=300) as page:
            page.open(work / "report.html", width=WIDTH, height=REPORT.height)
            page.run("document.querySelector('.source').remove()")  # it names this machine
            page.wait("document.querySelector('#media').readyState >= 2")
            page.run(f"document.querySelector('#media').currentTime = {LOOK_AT_S}")
            page.wait("!document.querySelector('#media').seeking && document.querySelector('[aria-current]') !== null")
            take(page, REPORT, work)
            find = Finder(str(store), "bundled")
            find(Query(text="blue ring"))  # the first question loads the model, and the page says how long it took
            with served(create_app(open_store(str(store)), find)) as base:
                tab = Tab(page, base)
                tab.open("/?q=blue+ring", width=WIDTH, height=EXPLORER.height)
                page.wait("[...document.querySelectorAll('.card img')].every((each) => each.naturalWidth)")
                take(tab.page, EXPLORER, work)
    for picture in (REPORT, EXPLORER):
        print(f"docs/pictures/{picture.name}: {(FOLDER / picture.name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
