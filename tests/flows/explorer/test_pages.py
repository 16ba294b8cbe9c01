"""The pages in a headless browser: what a person does and sees."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.explorer import create_app
from tasks.core.schema import Caption, Chunk, Detections, Result, Tag
from tasks.store import Store
from tests.browser import Page
from tests.contrast import too_low
from tests.core.publish.results import ATTACKS, hostile
from tests.flows.explorer.stores import add_media, finder, served
from tests.flows.explorer.tab import Tab

Sample = Callable[..., Path]
AT = "document.querySelector('#media').currentTime"
READY = "document.querySelector('#media')?.readyState >= 2 && !document.querySelector('#media').seeking"
TOKEN = "a-long-enough-token"


@pytest.fixture
def tab(page: Page, store: Store, shown: Result, sample: Sample) -> Iterator[Tab]:
    """The store has two talks, the other one from a camera."""
    door = "s3://bucket/camera=door/20261121T140500Z.mp4"
    add_media(store, sample("video_only"), door, caption=None, chunks=[], tags=[Tag(text="a door", score=0.5)])
    with served(create_app(store, finder(store))) as base:
        yield Tab(page, base)


def painted(tab: Tab, x: float, y: float) -> bool:
    """Is something drawn over this pixel of the picture (192 x 108)?"""
    return bool(
        tab.page.run(
            "(() => { const c = document.querySelector('#boxes'), s = Math.min(c.width / 192, c.height / 108);"
            f" const x = (c.width - 192 * s) / 2 + {x} * s, y = (c.height - 108 * s) / 2 + {y} * s;"
            " return c.getContext('2d').getImageData(x - 1, y - 1, 3, 3).data.some((v) => v); })()"
        )
    )


def test_newest_media_are_listed_and_a_search_finds_the_moment(tab: Tab) -> None:
    tab.open("/")
    assert tab.text("#heading") == "Newest media"
    assert tab.count(".card") == 2
    tab.type("#q", "one two three")
    tab.page.wait("document.querySelector('#heading').textContent === 'Moments'")
    tab.settle()
    assert "one two three" in tab.text(".card .why")
    assert tab.page.run("location.search") == "?q=one+two+three"
    tab.page.wait("document.querySelector('.card img').naturalWidth === 160")
    assert tab.noise() == []


def test_filters_narrow_the_answer_and_stay_in_the_address(tab: Tab, shown: Result) -> None:
    tab.open("/?q=hello")
    assert tab.count(".card") == 2
    tab.page.click("[value=objects] + span")
    tab.page.wait("location.search.includes('kind=objects')")
    tab.settle()
    assert tab.page.run("document.querySelector('#status').className").endswith("bad")
    tab.page.click("[value=objects] + span")
    tab.page.click("#toggle")
    tab.type("[name=camera]", "door")
    tab.page.wait("document.querySelectorAll('.card').length === 1")
    assert "door" in tab.text(".card .of + .of")
    assert tab.text("#active").strip() == "1"
    tab.open(tab.page.run("location.pathname + location.search"))
    assert tab.count(".card") == 1
    assert tab.page.run("document.querySelector('#filters').hidden") is False
    tab.page.click("#clear")
    tab.page.wait("document.querySelectorAll('.card').length === 2")


def test_a_result_opens_at_its_moment_and_plays(tab: Tab, shown: Result) -> None:
    tab.open(f"/?q=three&media={shown.media_id}")
    tab.page.click(".card")
    tab.page.wait(f"location.pathname.startsWith('/media/') && {READY}")
    assert tab.page.run(f"{AT} >= 1.2")
    tab.page.wait(f"!document.querySelector('#media').paused && {AT} > 1.3")
    assert tab.page.run("document.querySelector('#play').getAttribute('aria-label')") == "Pause"
    tab.page.click("#play")
    tab.page.wait("document.querySelector('#media').paused")
    tab.page.click("#segments li:nth-child(2) button")
    tab.page.wait(f"Math.abs({AT} - 1.25) < 0.05")
    tab.page.wait("document.querySelector('#segments [aria-current]') !== null")
    assert tab.text("#name") == "talk.mp4"
    assert tab.text("[aria-current] span") == "one two three"
    assert tab.text("#around").endswith("1 of 1")
    assert tab.noise() == []


def test_what_is_no_opened_moment_stays_still(tab: Tab, shown: Result) -> None:
    tab.open("/")
    tab.page.click(f".card[href='/media/{shown.media_id}']")
    tab.page.wait(f"location.pathname.startsWith('/media/') && {READY}")
    assert tab.page.run("document.querySelector('#media').paused")
    tab.open(f"/media/{shown.media_id}#t=1.25")
    tab.page.wait(READY)
    assert tab.page.run("document.querySelector('#media').paused")


def test_back_goes_back_through_the_searches(tab: Tab, shown: Result) -> None:
    address = "location.pathname + location.search"
    tab.open("/")
    tab.type("#q", "hello")
    tab.page.wait(f"{address} === '/?q=hello'")
    tab.settle()
    tab.page.run("document.querySelector('#q').value = ''")
    tab.type("#q", "three")
    tab.page.wait(f"{address} === '/?q=three'")
    tab.page.press("Enter", text="\r")
    tab.page.click("[value=speech] + span")
    tab.page.wait(f"{address} === '/?q=three&kind=speech'")
    tab.settle()
    for back, heading in (("/?q=three", "Moments"), ("/?q=hello", "Moments"), ("/", "Newest media")):
        tab.page.run("history.back()")
        tab.page.wait(f"{address} === '{back}'")
        tab.page.wait(f"document.querySelector('#heading').textContent === '{heading}'")
        tab.settle()
        assert tab.page.run("document.querySelector('#q').value") == back.removeprefix("/").removeprefix("?q=")
        assert tab.count(":checked") == 0
    tab.page.run("history.forward()")
    tab.page.wait(f"{address} === '/?q=hello'")
    tab.settle()
    tab.page.click(f".card[href^='/media/{shown.media_id}']")
    tab.page.wait(f"location.pathname.startsWith('/media/') && {READY}")
    tab.page.run("history.back()")
    tab.page.wait(f"{address} === '/?q=hello' && document.querySelectorAll('.card').length === 2")


def test_letters_typed_one_after_the_other_are_one_search(tab: Tab) -> None:
    tab.open("/")
    before = tab.page.run("history.length")
    for part, address in (("he", "/?q=he"), ("llo", "/?q=hello")):
        tab.type("#q", part)
        tab.page.wait(f"location.pathname + location.search === '{address}'")
    assert tab.page.run("history.length") == before + 1


def test_the_address_follows_the_player(tab: Tab, shown: Result) -> None:
    tab.open(f"/?q=three&media={shown.media_id}")
    result = tab.page.run("document.querySelector('.card').getAttribute('href')")
    tab.page.click(".card")
    tab.page.wait(f"location.pathname.startsWith('/media/') && {READY}")
    tab.page.wait(f"'{result}' !== location.pathname + location.hash && Number(location.hash.slice(3)) > 1.25")
    tab.page.click("#segments li:nth-child(3) button")
    tab.page.run("document.querySelector('#media').pause()")
    tab.page.wait(f"Math.abs(Number(location.hash.slice(3)) - {AT}) < 0.01 && {AT} >= 2.2")
    at = tab.page.run(AT)
    tab.page.run("location.reload()")
    tab.page.wait(f"performance.getEntriesByType('navigation')[0].type === 'reload' && {READY}")
    tab.page.wait(f"Math.abs({AT} - {at}) < 0.05")
    assert tab.page.run("document.querySelector('#media').paused")
    assert tab.text("#around").endswith("1 of 1"), "it is still known as a result of the search"
    tab.page.run("history.back()")
    tab.page.wait("location.pathname === '/'")
    assert tab.noise() == []


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_reaches_aa(tab: Tab, shown: Result, dark: bool) -> None:
    for path in (
        "/",
        "/?q=hello&kind=speech&camera=door",
        "/?q=hello&kind=objects",
        "/nothing",
        f"/media/{shown.media_id}#t=1.3",
    ):
        tab.open(path, dark=dark)
        assert too_low(tab.page) == [], path
        tab.page.run("document.querySelector('#help')?.showModal()")
        assert too_low(tab.page) == [], f"the help of {path}"


def test_boxes_are_drawn_over_the_video_when_they_are_there(tab: Tab, shown: Result) -> None:
    car, person = (10, 50), (150, 50)
    for time, expected in ((0.1, (True, False)), (1.0, (True, True)), (2.0, (False, False)), (3.0, (True, False))):
        tab.open(f"/media/{shown.media_id}#t={time}")
        tab.page.wait(READY)
        tab.page.wait(f"Math.abs({AT} - {time}) < 0.05")
        assert (painted(tab, *car), painted(tab, *person)) == expected, time
    tab.page.click("#show-boxes")
    assert not painted(tab, *car)
    tab.page.press("b", text="b")
    assert painted(tab, *car)


def test_boxes_follow_while_it_plays(tab: Tab, shown: Result) -> None:
    tab.open(f"/media/{shown.media_id}#t=1.2")
    tab.page.wait(READY)
    tab.page.press(" ", text=" ")
    tab.page.wait(f"{AT} > 2 && {AT} < 2.4 && !document.querySelector('#media').paused")
    assert not painted(tab, 10, 50)
    tab.page.wait(f"{AT} > 2.7")
    assert painted(tab, 10, 50)


def test_transcript_timeline_chunks_and_keys_seek(tab: Tab, shown: Result) -> None:
    tab.open(f"/media/{shown.media_id}")
    tab.page.wait(READY)
    tab.page.click("#segments li:nth-child(3) button")
    tab.page.wait(f"Math.abs({AT} - 2.25) < 0.05")
    tab.page.wait("document.querySelector('#segments [aria-current] span')?.textContent === 'good bye'")
    tab.page.click("#chunks li:nth-child(1) button")
    tab.page.wait(f"{AT} < 0.1 && document.querySelector('#chunks [aria-current]') !== null")
    assert "Cars drive along a street." in tab.text("#chunks [aria-current]")
    tab.page.click("#timeline .track")
    tab.page.wait(f"Math.abs({AT} - 2) < 0.1")
    for key, time in (("ArrowLeft", 0.0), ("]", 2.0), ("]", 2.04), (".", 2.08), (",", 2.04), ("[", 0.0), ("]", 2.0)):
        tab.page.press(key)
        tab.page.wait(f"Math.abs({AT} - {time}) < 0.03")
    assert tab.count(".lane .track .shot") == tab.count(".lane .track .ema") == 1
    assert [tab.page.run(f"document.querySelectorAll('.lane bdi')[{at}].textContent") for at in range(4)] == [
        "Scenes", "Speech", "car", "person"]  # fmt: skip


def test_keys_go_through_the_results(tab: Tab) -> None:
    tab.open("/?q=hello")
    focused = "document.activeElement.getAttribute('href')"
    links = tab.page.run("[...document.querySelectorAll('.card')].map((card) => card.getAttribute('href'))")
    tab.page.press("j", text="j")
    tab.page.press("j", text="j")
    assert tab.page.run(focused) == links[1]
    tab.page.press("k", text="k")
    assert tab.page.run(focused) == links[0]
    tab.page.press("/", text="/")
    assert tab.page.run("document.activeElement.id") == "q"
    assert tab.page.run("document.querySelector('#q').value") == "hello"
    tab.page.press("Escape")
    tab.page.press("?", text="?")
    assert tab.page.run("document.querySelector('#help').open")
    tab.page.run("document.querySelector('#help').close()")
    tab.page.click(".card")
    tab.page.wait("location.pathname.startsWith('/media/') && document.querySelector('#around')?.hidden === false")
    tab.page.press("j", text="j")
    tab.page.wait(f"history.state?.opened === '{links[1]}' && document.readyState === 'complete'")
    tab.page.wait("document.querySelector('#around')?.textContent.endsWith('2 of 2')")


def test_attacks_in_names_transcripts_and_tags_are_text(page: Page, store: Store, talk: Path, tmp_path: Path) -> None:
    file = tmp_path / "<img src=x onerror=window.pwned=1>.mp4"
    file.write_bytes(talk.read_bytes())
    every = hostile()
    fields = ("transcript", "detections", "tags", "caption", "chunks", "notice", "options", "models")
    changes = {name: getattr(every, name) for name in fields} | {"models": {**every.models, **_embeddings()}}
    media = add_media(store, file, **changes)
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base)
        tab.open("/?q=pwned")
        assert tab.count(".card") > 0
        assert "<script>window.pwned=1</script>" in tab.text("#results")
        tab.open("/")
        assert tab.text(".card .why") == file.name
        tab.open(f"/media/{media.media_id}#t=0.1")
        page.wait(READY)
        assert tab.text("#name") == file.name
        assert tab.text("#segments li:nth-child(1) span") == ATTACKS[0]
        assert tab.text("#tags li:nth-child(3)") == ATTACKS[2]
        assert ATTACKS[0] in tab.text("#caption")
        assert painted(tab, 1, 50)
        assert page.run("window.pwned === undefined")
        assert tab.count("main img, main script, main svg svg, [onerror], [onload], [autofocus]") == 0
        assert tab.noise() == []


def _embeddings() -> dict[str, object]:
    from tests.core.publish.results import result

    return {"embeddings": result().models["embeddings"]}


def test_scripts_of_others_do_not_run(tab: Tab) -> None:
    """The policy holds even where escaping would not."""
    tab.open("/")
    tab.page.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned=1\">"
        '<svg onload="window.pwned=1"></svg><style>body{display:none}</style>\')'
    )
    tab.page.wait("document.querySelector('img[src=x]').complete")
    assert tab.page.run("window.pwned === undefined && getComputedStyle(document.body).display === 'block'")


def test_a_report_cannot_reach_the_explorer(tab: Tab, shown: Result) -> None:
    tab.page.call("Page.navigate", url=f"{tab.base}/api/media/{shown.media_id}/files/report.html")
    tab.page.wait("document.title === 'ran'")
    assert tab.page.run("self.origin") == "null"
    assert tab.page.run("fetch('/api/media').then(() => 'read', () => 'refused')") == "refused"


def test_clips_are_played_where_the_source_is_gone(page: Page, store: Store, talk: Path, tmp_path: Path) -> None:
    media = add_media(store, talk, str(tmp_path / "gone.mp4"))
    store.write(f"media/{media.media_id}/clips/{'c' * 32}/clip_0000.mp4", talk.read_bytes())
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open(f"/media/{media.media_id}#t=0.5")
        page.wait(f"{READY} && Math.abs({AT} - 0.5) < 0.05")
        assert page.run("document.querySelector('#media').src").endswith("/clips/0")
        page.click("#segments li:nth-child(3) button")
        page.wait("document.querySelector('#missing').hidden === false")
        assert "no clip was kept" in tab.text("#missing")
        assert tab.text("#now") == "0:02.3"
        page.click("#segments li:nth-child(1) button")
        page.wait(f"{READY} && Math.abs({AT} - 0.25) < 0.05 && document.querySelector('#missing').hidden")


def test_a_source_that_does_not_play_gives_way_to_clips(page: Page, store: Store, talk: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 16)
    media = add_media(store, noise)
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open(f"/media/{media.media_id}")
        page.wait("document.querySelector('#screen').classList.contains('broken')")
        assert "cannot be played" in tab.text("#missing")
        page.click("#segments li:nth-child(2) button")
        assert tab.text("#now") == "0:01.3"
        store.write(f"media/{media.media_id}/clips/{'c' * 32}/clip_0000.mp4", talk.read_bytes())
        tab.open(f"/media/{media.media_id}#t=1")
        page.wait(f"{READY} && Math.abs({AT} - 1) < 0.05")


def test_media_without_anything_found_and_old_ones(page: Page, store: Store, talk: Path) -> None:
    """Results from before there were scenes, tags and storyboards."""
    nothing: dict[str, Any] = {
        "scenes": [],
        "tags": [],
        "caption": None,
        "chunks": [],
        "clips": [],
        "detections": Detections(),
    }
    media = add_media(store, talk, board=False, **nothing)
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open("/")
        page.wait("document.querySelector('.card img').complete")
        tab.open(f"/media/{media.media_id}")
        page.wait(READY)
        assert page.run("document.querySelector('#shown').hidden")
        assert tab.noise() == []


@pytest.mark.parametrize("path", ["/", "/?q=hello&camera=door", "/media/{id}"])
def test_a_phone_needs_no_sideways_scroll(tab: Tab, shown: Result, path: str) -> None:
    tab.open(path.format(id=shown.media_id), width=390)
    assert tab.page.run("document.documentElement.scrollWidth") <= 390


def test_dark_mode_is_dark(tab: Tab) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, value) => sum + +value, 0)"
    assert tab.open("/", dark=True).page.run(ground) < 120
    assert tab.open("/").page.run(ground) > 650


def test_nothing_moves_when_the_answer_arrives(tab: Tab, shown: Result) -> None:
    tab.page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.shift = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries())"
        " window.shift += entry.value; }).observe({type: 'layout-shift', buffered: true});",
    )
    for path in ("/", f"/media/{shown.media_id}"):
        tab.open(path)
        tab.page.run("new Promise((done) => setTimeout(done, 300))")
        assert tab.page.run("window.shift") < 0.01, path


def test_a_token_opens_the_page_once_and_leaves_the_address(page: Page, store: Store, shown: Result) -> None:
    with served(create_app(store, finder(store), token=TOKEN)) as base:
        tab = Tab(page, base)
        page.call("Network.clearBrowserCookies")
        tab.open("/?token=a-wrong-token-of-mine")
        assert "needs its token" in tab.text("h1")
        page.call("Page.navigate", url=f"{base}/?q=hello&token={TOKEN}")
        page.wait("location.search === '?q=hello' && document.querySelectorAll('.card').length === 1")
        assert page.run("document.cookie") == ""
        page.click(".card")
        page.wait(READY)


def test_an_empty_store_says_what_to_do(page: Page, store: Store) -> None:
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open("/")
        assert "python -m flows analyze" in tab.text(".empty")
        tab.open("/?q=anything")
        assert "Nothing found" in tab.text(".empty")
        tab.open("/?q=anything")


def test_chunks_are_marked_as_time_goes(page: Page, store: Store, talk: Path) -> None:
    said = Caption(text="First.", score=0.5, start=0, end=1)
    media = add_media(store, talk, chunks=[Chunk(start=0, end=1, caption=said), Chunk(start=1, end=4)])
    with served(create_app(store, finder(store))) as base:
        tab = Tab(page, base).open(f"/media/{media.media_id}#t=0.5")
        page.wait(READY)
        assert tab.text("#chunks [aria-current]").startswith("0:00First.")
        page.press("ArrowRight")
        page.wait("document.querySelector('#chunks li:nth-child(2) [aria-current]') === null")
