"""What a person at a terminal sees: progress on stderr, results on stdout."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.core.fetch import display_source
from tasks.core.schema import AnalyzeReport, Result

if TYPE_CHECKING:
    from tasks.core.search import Moment

LINE_EVERY_S = 5.0
"""Pause between two lines about a backfill where there is no terminal."""

_STYLE = {"done": "green", "cached": "cyan", "quarantined": "yellow", "failed": "red"}


class Interrupted(Exception):
    """Ctrl-C while the engine ran: it has been ended in order."""


@contextmanager
def progress(name: str) -> Iterator[None]:
    """Draws the progress of flow runs in the block: bars on a terminal, a line per finished stage elsewhere."""
    from flows.progress import listener

    draw = _bars(name) if sys.stderr.isatty() else _lines(name)
    with draw as heard:
        token = listener.set(heard)
        try:
            yield
        finally:
            listener.reset(token)


@contextmanager
def _bars(name: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        whole = bars.add_task(escape(name), total=None)
        rows: dict[str, Any] = {}
        counts: dict[str, tuple[int, int]] = {}

        def heard(stage: str, done: int, expected: int) -> None:
            if stage not in rows:
                rows[stage] = bars.add_task(f"  {stage}")
            bars.update(rows[stage], completed=done, total=expected, visible=expected > 0)
            counts[stage] = (done, expected)
            bars.update(
                whole,
                completed=sum(done for done, _ in counts.values()),
                total=sum(total for _, total in counts.values()),
            )

        yield heard


@contextmanager
def _lines(name: str) -> Iterator[Any]:
    def heard(stage: str, done: int, expected: int) -> None:
        if expected and done == expected:
            print(f"{name}: {stage} {done}/{expected}", file=sys.stderr, flush=True)

    yield heard


@contextmanager
def count_progress(name: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Draws how far a backfill is: a bar on a terminal, a line every few seconds elsewhere."""
    if not sys.stderr.isatty():
        shown = time.monotonic()

        def lines(line: str, done: int, total: int | None) -> None:
            nonlocal shown
            if time.monotonic() - shown > LINE_EVERY_S or done == total:
                shown = time.monotonic()
                print(printable(line), file=sys.stderr, flush=True)

        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), BarColumn(), text, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        whole = bars.add_task(printable(name), total=None)
        yield lambda line, done, total: bars.update(whole, description=str(Text(line)), completed=done, total=total)


def say(text: str = "", *, style: str | None = None, err: bool = False) -> None:
    """One line, in colour on a terminal; markup in the text has no effect."""
    from rich.console import Console
    from rich.text import Text

    stream = sys.stderr if err else sys.stdout
    Console(file=stream, soft_wrap=True, highlight=False).print(Text(printable(text), style=style or ""))


class Spoken(logging.Handler):
    """Log records as lines for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), err=True, style="yellow")


def printable(text: str) -> str:
    """Text without control characters, which a hostile name could steer a terminal with."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def say_if_new(store: str | None) -> None:
    """A store that is not there yet is made: say so, its name may be a typing error."""
    from tasks.settings import settings
    from tasks.store import open_store

    root = open_store(store or settings().store)
    if not root.exists():
        say(f"There is no store at {root.root} yet: a new one begins.", err=True)


def matched(listed: int, prefix: str, glob: str | None) -> bool:
    """False, said, where a pattern matches nothing: that is a mistake, an empty folder is none."""
    if listed or glob is None:
        return True
    say(
        f"Nothing under {display_source(prefix)} matches --glob {glob!r}. The pattern is of the whole path below the "
        "prefix; * matches / as well.",
        err=True,
        style="red",
    )
    return False


def show_report(report: AnalyzeReport, result: Result | None, noticed: set[str]) -> None:
    """A source's outcome: what was said and seen, and where to look. `noticed` are the notices of this run so far."""
    say(f"{report.status:<12}{_one_line(report.source)}  ({report.seconds:.1f} s)", style=_STYLE[report.status])
    if report.error:
        say(f"            {report.error['code']}: {report.error['message']}")
    if result is None:
        return
    if result.notice and result.notice not in noticed:
        noticed.add(result.notice)
        say(f"  note      {result.notice}", style="yellow")
    media = result.media
    picture = (
        f", {media.video.width}x{media.video.height}, {float(media.video.fps):.2f} frames/s" if media.video else ""
    )
    say(f"  media     {media.duration_s:.1f} s{picture}, {'sound' if media.audio else 'no sound'}")
    if result.silence:
        say(f"  said      nothing: {result.silence}")
    for segment in result.transcript.segments[:20]:
        say(f"  {segment.start:7.2f} s  {_one_line(segment.text)}")
    if len(result.transcript.segments) > 20:
        say(f"            and {len(result.transcript.segments) - 20} more segments")
    if result.transcript.gaps:
        say(f"  no text   {result.transcript.gaps_s:.1f} s of speech, in {len(result.transcript.gaps)} places")
    if result.detections.frames_sampled:
        seen = ", ".join(f"{name} {count}" for name, count in result.detections.classes.items()) or "nothing"
        say(f"  seen      {seen}  (boxes in {result.frames_with_boxes} of {result.detections.frames_sampled} frames)")
    if result.caption:
        say(f"  shows     {_one_line(result.caption.text)}")
    if result.tags:
        say(f"  tags      {', '.join(_one_line(tag.text) for tag in result.tags)}")
    if result.scenes:
        cuts = sum(scene.method == "shot" for scene in result.scenes)
        say(f"  scenes    {cuts} cuts, {len(result.scenes) - cuts} frames unlike those before")
    say(f"  result    {report.result}")
    say(f"  report    {result.artifacts['report']}")


def show_moments(moments: Sequence[Moment]) -> None:
    """Moments as a list to read: when and where, why, and the picture."""
    from tasks.core.publish.waveform import clock

    if not moments:
        say("Nothing found. Fewer or other words may help; `--in` and the filters narrow the search.")
    for number, moment in enumerate(moments, 1):
        say(f"{number:>3}  {clock(moment.start)} - {clock(moment.end)}  {_one_line(moment.source)}", style="bold")
        say(f"     {moment.kind:<8} {_one_line(moment.why)}  (score {moment.score:.4f})")
        if moment.thumbnail:
            say(f"     {moment.thumbnail}", style="dim")


def _one_line(text: str) -> str:
    return " ".join(text.split())
