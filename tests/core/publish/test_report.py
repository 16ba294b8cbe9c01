import inspect
import json
import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.core.publish.contact_sheet import audio_sheet
from tasks.core.publish.report import money, report, seconds, size
from tasks.core.publish.subtitles import srt, vtt
from tasks.core.schema import (
    Box,
    Damage,
    Detections,
    FrameDetections,
    HeardChannel,
    ModelInfo,
    Result,
    Take,
    Transcript,
    TranscriptGap,
)
from tests.browser import Page, browser, chromium
from tests.contrast import ratio, too_low
from tests.core.publish.results import ATTACKS, empty, hostile, media, result

TEMPLATE = Path(inspect.getfile(report)).with_name("report.html")


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of the two scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_no_string_of_the_media_becomes_markup() -> None:
    page = Elements(report(hostile(), peaks=[0.5]))
    ours = set(re.findall(r"<([a-z][a-z0-9]*)", TEMPLATE.read_text(encoding="utf-8")))
    assert {tag for tag, _ in page.tags} <= ours
    assert not [
        name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "autofocus"
    ]
    assert len(page.all("script")) == 2
    assert page.all("img") == []
    assert len(page.all("style")) == 1
    assert not [value for attributes in page.all("a") for value in attributes.values() if value and ":" in value]


def test_text_arrives_whole() -> None:
    page = report(hostile())
    for attack in ("&lt;script&gt;window.pwned=1&lt;/script&gt;", "{{ 7 * 7 }}{% raw %}", "&#34;&gt;&lt;img src=x"):
        assert attack in page


def test_embedded_json_cannot_end_its_script() -> None:
    page = report(hostile())
    embedded = page.split('id="data">')[1].split("</script>")[0]
    assert not set(embedded) & set("<>&\u2028")
    assert sorted(name for name, _ in json.loads(embedded)["classes"]) == sorted(ATTACKS)


@pytest.mark.parametrize("make", [result, empty, hostile])
def test_nothing_is_requested_from_a_network(make: Callable[[], Result]) -> None:
    page = report(make(), sheet_jpeg=audio_sheet([0.1], 1.0), peaks=[0.1])
    assert not re.search(r"https?://", page)
    assert not re.search(r"url\(|@import|//[a-z0-9]+\.[a-z]", page.split("<script")[0])
    for tag, attributes in Elements(page).tags:
        for name in ("src", "href", "poster", "action", "srcset", "data"):
            address = attributes.get(name)
            assert address is None or address.startswith("data:") or ":" not in address, (tag, address)


def test_policy_forbids_all_but_this_style_and_script() -> None:
    [policy] = [str(meta["content"]) for meta in Elements(report(result())).all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "media-src 'none'" in policy


def test_small_media_is_embedded_and_large_media_linked(talk: Path) -> None:
    inside = Elements(report(result(), player=talk, player_url="talk.mp4")).all("video")
    linked = Elements(report(result(), player=talk, player_url="a b.mp4", embed_bytes=10)).all("video")
    assert str(inside[0]["src"]).startswith("data:video/mp4;base64,")
    assert linked[0]["src"] == "a%20b.mp4"
    assert Elements(report(result(), player=talk, embed_bytes=10)).all("video") == []


def test_a_file_that_no_browser_plays_is_not_embedded(tmp_path: Path) -> None:
    path = tmp_path / "x.mpg"
    path.write_bytes(b"\0\0\x01\xba" + bytes(50))
    page = report(result(), player=path)
    assert Elements(page).all("video") == []
    assert "No player" in page


def test_links_that_leave_the_folder_of_the_report_are_refused() -> None:
    for url in ("javascript:alert(1)", "https://elsewhere/x.mp4"):
        with pytest.raises(ValueError, match="links only to files beside it"):
            report(result(), player_url=url)


@pytest.mark.parametrize("make", [result, empty, hostile])
def test_a_report_links_to_nothing_because_it_may_be_mailed(make: Callable[[], Result]) -> None:
    page = Elements(report(make()))
    assert page.all("a") == []
    saved = [button["data-save"] for button in page.all("button") if "data-save" in button]
    assert saved == (["srt", "vtt"] if make().transcript.segments else [])


def test_audio_has_an_audio_player(talk: Path) -> None:
    page = Elements(report(result(media=media(video=False)), player=talk))
    assert len(page.all("audio")) == 1
    assert page.all("video") == page.all("canvas") == []


def test_a_notice_is_shown_first_and_only_when_there_is_one() -> None:
    assert 'class="notice"' not in report(result())
    page = report(result(notice="made with toys"))
    assert page.index("made with toys") < page.index("hello there")


def test_only_what_bundled_models_made_is_called_a_demonstration() -> None:
    real = ModelInfo(name="yolo11n.pt", digest="00")
    found = result(notice="no embeddings", models={"detections": real})
    assert "<strong>Note.</strong> no embeddings" in report(found)
    found = result(notice="no embeddings", models={"detections": real.model_copy(update={"bundled": True})})
    assert "<strong>Demonstration.</strong> no embeddings" in report(found)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_of_links_and_buttons_reach_aa_on_every_ground(scheme: int) -> None:
    """The style is the explorer's too."""
    roots = re.findall(r":root \{(.*?)\}", TEMPLATE.with_suffix(".css").read_text(encoding="utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", roots[scheme]))
    for text in ("accent", "ink", "quiet", "head"):
        for ground in ("ground", "raised", "soft", "accent-soft"):
            assert ratio(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert ratio(colours["notice"], colours["notice-ground"]) >= 4.5
    assert ratio(colours["raised"], colours["accent"]) >= 3, "the sign on the button that plays"


@pytest.mark.parametrize(
    ("audio", "models", "said"),
    [
        (False, {}, "no sound"),
        (True, {}, "not transcribed"),
        (True, {"transcript": ModelInfo(name="base", digest="00")}, "no words were heard"),
    ],
)
def test_why_there_is_no_text(audio: bool, models: dict[str, ModelInfo], said: str) -> None:
    found = result(transcript=Transcript(), media=media(audio=audio), models=models)
    assert found.silence == said
    page = report(found)
    assert [text for text in ("no sound", "not transcribed", "no words were heard") if text in page] == [said]
    assert result().silence is None


def test_frames_are_counted_with_boxes_and_without() -> None:
    box = Box(xyxy=(1, 2, 3, 4), class_="person", confidence=0.9)
    frames = [FrameDetections(index=at, time=at / 2, boxes=[box] * (at % 2)) for at in range(7)]
    found = result(detections=Detections(frames_sampled=7, sample_fps=2, classes={"person": 3}, frames=frames))
    assert "in 3 of 7 frames" in report(found)


def test_segments_classes_stages_models_and_options_are_all_there() -> None:
    page = report(result(), peaks=[0.1, 0.9])
    for text in (
        "hello there",
        "one two three",
        "person",
        "transcript",
        "yolo11n.pt",
        "d" * 64,
        "frames.fps",
        "uniform",
    ):
        assert text in page, text
    assert [row["data-start"] for row in Elements(page).all("button") if row.get("data-end")] == [
        "0.25",
        "1.25",
        "2.25",
    ]


def test_the_same_result_gives_the_same_page() -> None:
    assert report(result(), peaks=[0.1]) == report(result(), peaks=[0.1])


def test_figures_read_well() -> None:
    assert [money(x) for x in (0, 12.345, 0.0123, 0.00012, 1e-9)] == [
        "$0.00",
        "$12.35",
        "$0.01",
        "$0.00012",
        "<$0.000001",
    ]
    assert [size(x) for x in (0, 999, 1500, 2_500_000, 3.2e9)] == ["0 bytes", "999 bytes", "1.5 kB", "2.5 MB", "3.2 GB"]
    assert [seconds(x) for x in (0.123, 12.34, 125)] == ["0.12 s", "12.3 s", "2:05"]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    binary = chromium()
    if binary is None:
        pytest.skip("no chromium on PATH")
    with browser(binary, tmp_path_factory.mktemp("profile")) as page:
        yield page


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < limit, f"{path} was never saved"
        time.sleep(0.05)


def show(tab: Page, page: str, folder: Path, width: int = 1280) -> None:
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    tab.open(path, width=width)


def test_in_a_browser_no_attack_runs_and_nothing_leaves(tab: Page, tmp_path: Path, talk: Path) -> None:
    show(tab, report(hostile(), player=talk, sheet_jpeg=audio_sheet([0.1], 1.0)), tmp_path)
    tab.wait("document.querySelector('#media').readyState >= 2")
    tab.run("document.querySelector('#segments button').click()")
    assert tab.run("window.pwned === undefined")
    assert tab.run("document.querySelectorAll('#segments li').length") == len(ATTACKS)
    assert not [url for url in tab.requests if not url.startswith(("file:", "data:"))]
    assert tab.messages == []


def test_in_a_browser_transcript_and_timeline_seek_and_follow(tab: Page, tmp_path: Path, talk: Path) -> None:
    show(tab, report(result(), player=talk, peaks=[0.1, 0.5]), tmp_path)
    at = "document.querySelector('#media').currentTime"
    tab.wait("document.querySelector('#media').readyState >= 2")
    tab.click("#segments li:nth-child(2) button")
    tab.wait(f"Math.abs({at} - 1.25) < 0.1")
    assert tab.run("document.querySelector('[aria-current]').textContent").endswith("one two three")
    drawn = "document.querySelector('#boxes').getContext('2d').getImageData(0,0,9999,9999).data.some((v) => v)"
    assert tab.run(drawn)
    tab.click(".timeline .track")
    tab.wait(f"Math.abs({at} - 2) < 0.1")
    tab.press("ArrowLeft")
    tab.wait(f"{at} < 0.1")
    tab.run("document.activeElement.blur()")
    tab.press(" ", text=" ")
    tab.wait(f"!document.querySelector('#media').paused && {at} > 0.1")
    assert tab.run("document.querySelector('#play').getAttribute('aria-label')") == "Pause"
    assert tab.messages == []


def test_in_a_browser_the_timeline_moves_without_a_player(tab: Page, tmp_path: Path) -> None:
    show(tab, report(result()), tmp_path)
    tab.click("#segments li:nth-child(3) button")
    assert tab.run("document.querySelector('#now').textContent") == "0:02.3"
    assert tab.run("document.querySelector('[aria-current]').textContent").endswith("good bye")
    assert tab.messages == []


def test_in_a_browser_a_mailed_report_gives_its_subtitles_and_says_what_it_lacks(tab: Page, tmp_path: Path) -> None:
    """Alone in a folder, its media left behind."""
    (tmp_path / "inbox").mkdir()
    made = result()
    show(tab, report(made, player_url="file:///srv/gone/talk.mp4"), tmp_path / "inbox")
    tab.wait("document.querySelector('#screen').classList.contains('broken')")
    assert "not part of the report" in tab.run("document.querySelector('#missing').textContent")
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
    for kind, expected in (("srt", srt(made)), ("vtt", vtt(made))):
        tab.click(f"[data-save={kind}]")
        path = tmp_path / "saved" / f"transcript.{kind}"
        wait_for(path)
        assert path.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("make", [result, empty])
def test_in_a_browser_contrast_reaches_aa(
    tab: Page, tmp_path: Path, talk: Path, make: Callable[[], Result], dark: bool
) -> None:
    path = tmp_path / "report.html"
    made = make().model_copy(update={"notice": "made with toys"})
    path.write_text(report(made, player=talk, peaks=[0.1], sheet_jpeg=audio_sheet([0.1], 1.0)), encoding="utf-8")
    tab.open(path, dark=dark)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.run("document.querySelector('#segments button')?.click()")
    assert too_low(tab) == []


@pytest.mark.parametrize("make", [result, hostile, empty])
def test_in_a_browser_a_phone_needs_no_sideways_scroll(tab: Page, tmp_path: Path, make: Callable[[], Result]) -> None:
    show(tab, report(make(), sheet_jpeg=audio_sheet([0.1], 1.0)), tmp_path, width=390)
    assert tab.run("document.documentElement.scrollWidth") <= 390


def test_what_is_lost_and_where_the_clock_jumps_is_said() -> None:
    takes = [Take(start=0, shift_s=5, packets={0: 0}), Take(start=61.5, shift_s=1005, packets={0: 90})]
    lost = [Damage(start=70, end=72.5, lost_s=2.5, kind="missing", stream="audio")]
    page = report(result(media=media(takes=takes, damaged=True, damage=lost, lost_s=2.5)))
    assert "jumps by +1,000.0 s at 1:01" in page
    assert "2.50 s of it are lost; missing at 1:10" in page


def test_what_has_no_text_and_where_it_was_heard_is_said() -> None:
    found = result()
    said = found.transcript.model_copy(
        update={
            "language_checked": False,
            "gaps": [TranscriptGap(start=61.0, end=65.0, reason="unlikely")],
            "dropped": 3,
            "channels": [HeardChannel(start=0, end=4, channel="left", reason="its speech is lost in the mix")],
        }
    )
    page = report(found.model_copy(update={"transcript": said}))
    assert "Speech without text:" in page
    assert 'data-start="61.0" title="what was heard is too unlikely">1:01 - 1:05' in page
    assert "en, not checked" in page
    assert "left from 0:00 to 0:04: its speech is lost in the mix" in page
    assert "3 texts that the model made up" in page
    assert "Speech without text" not in report(found)
    silent = said.model_copy(update={"segments": []})
    assert "Speech without text:" in report(found.model_copy(update={"transcript": silent}))


def test_numbers_that_are_none_make_no_page() -> None:
    found = result()
    box = found.detections.frames[0].boxes[0].model_copy(update={"confidence": float("nan")})
    frame = found.detections.frames[0].model_copy(update={"boxes": [box]})
    with pytest.raises(ValueError, match="JSON"):
        report(found.model_copy(update={"detections": found.detections.model_copy(update={"frames": [frame]})}))
