"""The page and the tables of a report: whole, without scripts, whatever cameras, rules and files are called."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tasks.core.activity.page import lasting, link, page, spoken, thumbnail
from tasks.core.activity.period import Period
from tasks.core.activity.rows import (
    Activity,
    AlertRow,
    CameraTotals,
    ClassRow,
    ClassTotals,
    GapRow,
    HealthRow,
    HourRow,
    VisitRow,
    WindowRow,
)
from tasks.core.activity.tables import TABLES, csv_text
from tests.browser import browser, chromium

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\N{RIGHT-TO-LEFT OVERRIDE}"
FORMULA = '=HYPERLINK("https://example.org/"&A1)'
DAY = Period(begin=1_761_343_200.0, end=1_761_343_200.0 + 86400, timezone="Europe/Berlin")
T = DAY.begin + 3600


def activity(name: str, link: str = "s3://bucket/x.mp4") -> Activity:
    """One of everything, called so."""
    return Activity(
        period=DAY,
        until=DAY.end,
        made=DAY.end,
        source=name,
        ledgers=True,
        cameras=[
            CameraTotals(
                camera=name, windows=2, visits=1, alerts=1, recorded_s=6, speech_s=3, lag_median_s=2.5, lag_p95_s=3
            )
        ],
        classes=[ClassTotals.model_validate({"class": name, "visits": 1, "dwell_s": 3, "dwell_median_s": 3})],
        hours=[HourRow(camera=name, start=T, end=T + 3600, visits=1, speech_s=3)],
        class_hours=[
            ClassRow.model_validate({"camera": name, "class": name, "start": T, "end": T + 3600, "visits": 1})
        ],
        windows=[
            WindowRow(camera=name, start=T, duration_s=3, state="analysed", link=link, codec=name, width=64, height=36),
            WindowRow(camera=name, start=T + 3, duration_s=3, state="set_aside", link=link, reason=name),
        ],
        visits=[
            VisitRow.model_validate(
                {
                    "camera": name,
                    "visit": "v",
                    "class": name,
                    "start": T,
                    "end": T + 3,
                    "dwell_s": 3,
                    "lasts": False,
                    "frames": 9,
                }
            )
        ],
        alerts=[
            AlertRow(
                id="a",
                rule=name,
                camera=name,
                time=T,
                classes=(name,),
                why=name,
                visit="v",
                link=link,
                deliveries={name: "sent"},
            )
        ],
        gaps=[GapRow(camera=name, start=T + 6, end=T + 60, cause=name, lasts=False)],
        health=[HealthRow(camera=name, start=T + 6, end=T + 60, kind=name, lasts=True)],
        notices=[name],
    )


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_a_hostile_name_is_text() -> None:
    for address in (
        f"s3://bucket/{HOSTILE}",
        f"javascript:alert(1)//{HOSTILE}",
        f"/folder/{HOSTILE}",
        f"https://host/{HOSTILE}",
    ):
        text = page(activity(HOSTILE, address), {"a": thumbnail(jpeg()) or b""})
        found = tags(text)
        calm = tags(page(activity("gate", link_like(address)), {"a": thumbnail(jpeg()) or b""}))
        assert [tag for tag, _ in found] == [tag for tag, _ in calm], "it makes no element"
        assert [sorted(attributes) for _, attributes in found] == [sorted(attributes) for _, attributes in calm]
        targets = [attributes["href"] or "" for tag, attributes in found if tag == "a"]
        assert all(target.startswith(("file:///", "https://host/")) for target in targets)
        assert "alert(1)" in text
        assert "{{ 7*7 }}" in text


def link_like(address: str) -> str:
    """Another address of the same kind."""
    return address.partition('"')[0] + "x"


def test_nothing_is_asked_of_a_network() -> None:
    text = page(activity("gate"), {"a": thumbnail(jpeg()) or b""})
    policies = [each["content"] or "" for tag, each in tags(text) if tag == "meta" and "http-equiv" in each]
    assert [policy.split(";")[0] for policy in policies] == ["default-src 'none'"]
    assert not [tag for tag, _ in tags(text) if tag in ("script", "link", "iframe", "object", "form")]
    sources = [attributes["src"] or "" for _, attributes in tags(text) if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_links_are_those_that_a_browser_may_follow() -> None:
    assert link("/a b/c.mp4#t=1,2") == "file:///a%20b/c.mp4#t=1,2"
    assert link("https://host/c.mp4") == "https://host/c.mp4"
    assert [link(text) for text in ("s3://b/k", "javascript:alert(1)", "data:text/html,x", "//host/x.mp4")[:3]] == [
        None
    ] * 3


def test_spreadsheets_compute_nothing() -> None:
    for name in TABLES:
        rows = list(csv.reader(io.StringIO(csv_text(activity(FORMULA, FORMULA), name).decode())))
        cells = [cell for row in rows[1:] for cell in row]
        assert f"'{FORMULA}" in cells
        assert not [cell for cell in cells if cell.startswith("=")]


def test_a_picture_that_is_none_is_left_out() -> None:
    assert thumbnail(b"no picture") is None
    assert thumbnail(jpeg()[:400]) is None
    with Image.open(io.BytesIO(thumbnail(jpeg()) or b"")) as small:
        assert small.size == (320, 180)


def test_times_are_said_as_people_do() -> None:
    said = [lasting(at) for at in (None, 0.25, 45, 185, 7620, 356_400)]
    assert said == ["", "0.25 s", "45 s", "3 min 05 s", "2 h 07 min", "4 d 03 h"]
    assert spoken(DAY) == "Saturday 2025-10-25, Europe/Berlin"
    assert "25 hours" in spoken(Period(begin=DAY.end, end=DAY.end + 25 * 3600, timezone=DAY.timezone))


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_a_browser_shows_it_and_complains_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page(activity(HOSTILE, f"/x/{HOSTILE}"), {"a": thumbnail(jpeg()) or b""}))
    with browser(chromium() or "", tmp_path / "profile") as tab:
        for width in (1280, 390):
            tab.open(tmp_path / "report.html", width=width)
            assert tab.messages == []
            assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
            assert tab.run("document.title").startswith(HOSTILE[:20])
            assert tab.run("document.querySelector('.plot rect').getBoundingClientRect().height") > 50
            assert tab.run("document.querySelector('img').naturalWidth") == 320
            assert tab.run("document.documentElement.scrollWidth") <= width
