"""The page of alerts and visits in a headless browser."""

from collections.abc import Iterator

import pytest

from flows.explorer import create_app
from tasks.alerts import alert_path, image_path
from tasks.core.schema import Result
from tasks.records.deliveries import open_delivery
from tasks.store import Store
from tests.browser import Page
from tests.contrast import too_low
from tests.core.publish.results import ATTACKS
from tests.flows.explorer.stores import add_alert, add_visit, finder, served
from tests.flows.explorer.tab import Tab
from tests.flows.explorer.test_sightings import DAY_S, NOON, jpeg

READY = "document.querySelector('#media')?.readyState >= 2 && !document.querySelector('#media').seeking"


@pytest.fixture
def tab(page: Page, store: Store, shown: Result) -> Iterator[Tab]:
    """30 alerts of two cameras on two days, the newest with a picture and a message, and two visits."""
    for number in range(30):
        camera = "gate" if number < 20 else "yard"
        add_alert(store, number, NOON - number * 3600, camera=camera, media_id=shown.media_id, media_time=3.5)
    newest = add_alert(store, 99, NOON + 60, media_id=shown.media_id, media_time=6.25)
    store.write(image_path(newest.id), jpeg())
    open_delivery(store, alert_path(newest), newest, "mail")
    add_visit(store, 1, NOON, best={"media_id": shown.media_id})
    add_visit(store, 2, NOON - 3 * DAY_S, ended=False)
    with served(create_app(store, finder(store))) as base:
        yield Tab(page, base)


def texts(tab: Tab, selector: str) -> list[str]:
    return list(tab.page.run(f"[...document.querySelectorAll('{selector}')].map((found) => found.textContent)"))


def test_an_alert_opens_the_player_before_its_moment(tab: Tab) -> None:
    tab.open("/")
    tab.page.click("a[href='/alerts']")
    tab.page.wait("location.pathname === '/alerts' && document.querySelectorAll('.card').length === 24")
    tab.settle()
    assert tab.text(".card .why") == "somebody at the gate"
    assert "person in zone · gate" in tab.text(".card .told")
    assert tab.text(".card .all-told") == "mail waiting"
    tab.page.wait("document.querySelector('.card img').naturalWidth === 320")
    tab.page.click(".card")
    tab.page.wait(f"location.pathname.startsWith('/media/') && {READY}")
    at = tab.page.run("document.querySelector('#media').currentTime")
    assert 1.2 <= at < 3, "5 s before the moment"
    assert tab.text("#around").endswith("1 of 24")
    assert tab.count("a[href='/alerts']") == 2, "back to the list, and in the header"
    assert tab.noise() == []


def test_older_ones_come_below_and_filters_narrow(tab: Tab) -> None:
    tab.open("/alerts?zone=UTC")
    assert texts(tab, "#results h2") == ["Saturday, October 24, 2026", "Friday, October 23, 2026"]
    tab.page.click("#more")
    tab.page.wait("document.querySelectorAll('.card').length === 31")
    assert tab.page.run("document.querySelector('#more').hidden")
    assert tab.count("#results section") == 2, "a day goes on under its heading"
    tab.page.run(
        "(() => { const select = document.querySelector('select'); select.value = 'yard';"
        " select.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    tab.page.wait("document.querySelectorAll('.card').length === 10")
    assert tab.page.run("location.search") == "?camera=yard&zone=UTC"
    tab.open("/alerts?camera=gate&day=2026-10-24&zone=UTC")
    assert tab.count(".card") == 14
    tab.page.click("[value=visits] + span")
    tab.page.wait("document.querySelector('.card .why').textContent === 'person'")
    assert texts(tab, ".card .words > .told") == ["gate", "1 min 05 s, until 12:01:05 UTC"]
    tab.page.click("#clear")
    tab.page.wait("document.querySelectorAll('.card').length === 2")
    tab.page.run("history.back()")
    tab.page.wait("document.querySelectorAll('.card').length === 1")
    tab.open("/alerts?camera=nowhere")
    assert "Take a filter away" in tab.text(".empty")


def test_the_zone_is_the_browsers_unless_one_is_asked_for(tab: Tab) -> None:
    tab.page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    try:
        tab.open("/alerts")
        assert tab.text(".badge") == "17:31:00 IST"
        tab.open("/alerts?zone=Europe/Berlin")
        assert tab.text(".badge") == "14:01:00 CEST"
        tab.open("/alerts?zone=Nowhere")
        assert "Europe/Berlin" in tab.text("#status.bad")
    finally:
        tab.page.call("Emulation.setTimezoneOverride", timezoneId="")


def test_keys_go_through_the_alerts(tab: Tab) -> None:
    tab.open("/alerts")
    for key in "jjk":
        tab.page.press(key, text=key)
    assert tab.page.run("document.activeElement === document.querySelector('.card')")


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_reaches_aa(tab: Tab, dark: bool) -> None:
    for path in ("/alerts", "/alerts?show=visits", "/alerts?camera=nowhere", "/alerts?zone=Nowhere"):
        tab.open(path, dark=dark)
        assert too_low(tab.page) == [], path
    tab.page.run("document.querySelector('#help').showModal()")
    assert too_low(tab.page) == []


@pytest.mark.parametrize("path", ["/", "/alerts", "/alerts?show=visits", "/media/{id}"])
def test_a_phone_needs_no_sideways_scroll(tab: Tab, shown: Result, path: str) -> None:
    for width in (400, 360):
        tab.open(path.format(id=shown.media_id), width=width)
        assert tab.page.run("document.documentElement.scrollWidth") <= width


def test_attacks_in_cameras_rules_and_targets_are_text(page: Page, store: Store) -> None:
    for number, attack in enumerate(ATTACKS):
        alert = add_alert(store, number, NOON - number, rule=attack, why=attack, camera=attack.replace("\x00", ""))
        open_delivery(store, alert_path(alert), alert, attack)
        add_visit(store, number, NOON - number, **{"class": attack}, camera=attack.replace("\x00", ""))
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base)
        for show in ("alerts", "visits"):
            tab.open(f"/alerts?show={show}", width=400)
            assert tab.count(".card") == len(ATTACKS)
            assert tab.text(".card .why") == ATTACKS[0]
            assert f" {ATTACKS[0]}" in tab.text(".card .told") or tab.text(".card .told") == ATTACKS[0]
            assert page.run("window.pwned === undefined")
            assert tab.count("main script, main svg, main img[src=x], [onerror], [onload], [autofocus]") == 0
            assert page.run("document.documentElement.scrollWidth") <= 400
            assert tab.noise() == []


def test_an_empty_store_says_what_makes_alerts(page: Page, store: Store) -> None:
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open("/alerts")
        assert "python -m flows alerts run" in tab.text(".empty")
        tab.open("/alerts?show=visits")
        assert "python -m flows backfill" in tab.text(".empty")
        assert too_low(page) == []
