"""report.html of what cameras saw: self-contained, without scripts, safe whatever a camera or rule is called."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from tasks.core.activity import plots
from tasks.core.activity.period import Period
from tasks.core.activity.rows import Activity
from tasks.core.publish.palette import class_colors
from tasks.core.publish.player import data_uri
from tasks.core.publish.report import money, size
from tasks.core.publish.timeline import Bar

MOST_PICTURES: Final = 24
PICTURE_PX: Final = 320
"""Longest side of an alert's picture."""
MOST_ROWS: Final = 300
"""Of a long table; the CSV beside the page has all of it."""

CAUSES: Final = {
    "stream_absent": "#e5484d",
    "stalled": "#f2762e",
    "decoder": "#d65db1",
    "process_down": "#8f6bea",
    "spool_overflow": "#e0a800",
    "store_refused": "#a8683a",
    "clock_step": "#7d8ea3",
}
"""Colours of gaps."""

_HERE: Final = Path(__file__).parent
_CSS: Final = ("../publish/report.css", "activity.css")


def page(activity: Activity, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page as HTML text (UTF-8 to be). `pictures` are small JPEGs by alert. It asks nothing of a network."""
    css = "\n".join((_HERE / name).read_text("utf-8") for name in _CSS)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    seen = [row.class_ for row in activity.classes if row.visits]
    drawn = seen[: plots.SERIES]
    shown = plots.visits(activity, drawn)
    return _TEMPLATE.render(
        activity=activity,
        period=activity.period,
        css=Markup(css),  # noqa: S704 - our own files
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
        title=", ".join(camera.camera for camera in activity.cameras) or "no cameras",
        span=spoken(activity.period),
        figures=_figures(activity),
        colors=class_colors([row.class_ for row in activity.classes]) | {plots.OTHER: "#8a8f98", "speech": "#2060d8"},
        bars_by="by hour" if activity.period.seconds <= plots.HOURLY_S else "by day",
        visits=shown,
        speech=plots.speech(activity) if activity.total("speech_s") else None,
        ticks=plots.ticks(activity.period),
        strips=[(camera.camera, *_strips(activity, camera.camera)) for camera in activity.cameras],
        causes=CAUSES,
        gap_causes=_by_cause(activity),
        classes=activity.classes,
        pictures={name: data_uri("image/jpeg", jpeg) for name, jpeg in (pictures or {}).items()},
        most=MOST_ROWS,
        clip_of=lambda row: link(row.link),
    )


def spoken(period: Period) -> str:
    """`2026-11-21 00:00 to 2026-11-22 00:00, Europe/Berlin`; a whole day is its date and weekday."""
    begin, end = period.local(period.begin), period.local(period.end)
    if len(period.days) == 2 and (begin.hour, begin.minute, end.hour, end.minute) == (0, 0, 0, 0):
        hours = period.seconds / 3600
        odd = f", {hours:g} hours" if hours != 24 else ""
        return f"{begin:%A %Y-%m-%d}{odd}, {period.timezone}"
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, {period.timezone}"


def link(address: str) -> str | None:
    """What a browser may follow: a file's URI of a path, https:// as it is; None for anything else."""
    if address.startswith("/"):
        path, mark, fragment = address.partition("#t=")
        return f"file://{quote(path)}{mark}{fragment}"
    return address if address.startswith(("https://", "http://", "file:///")) else None


def thumbnail(jpeg: bytes) -> bytes | None:
    """A picture made small; None for what is none."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as opened:
            opened.draft("RGB", (2 * PICTURE_PX, 2 * PICTURE_PX))
            opened.thumbnail((PICTURE_PX, PICTURE_PX))
            out = io.BytesIO()
            opened.convert("RGB").save(out, "JPEG", quality=80)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ImportError):
        return None  # ImportError: ultralytics, where it is loaded too, makes Image.open ask for further packages
    return out.getvalue()


def lasting(seconds: float | None) -> str:
    """`45 s`, `3 min 05 s`, `2 h 07 min`, `4 d 03 h`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    for least, (unit, of), (small, part) in (
        (86400, ("d", 86400), ("h", 3600)),
        (3600, ("h", 3600), ("min", 60)),
        (60, ("min", 60), ("s", 1)),
    ):
        if seconds >= least:
            return f"{int(seconds // of)} {unit} {int(seconds % of // part):02d} {small}"
    raise AssertionError(seconds)


def _figures(activity: Activity) -> list[tuple[str, str, str]]:
    """(label, figure, remark) of what is to be read first."""
    elapsed = max(activity.until - activity.period.begin, 1e-9) * max(1, len(activity.cameras))
    recorded, gaps = activity.total("recorded_s"), activity.total("gap_s")
    top = activity.classes[0] if activity.classes else None
    visits, alerts = int(activity.total("visits")), int(activity.total("alerts"))
    held = sum("sent" not in row.deliveries.values() for row in activity.alerts if row.deliveries)
    lags = [camera.lag_median_s for camera in activity.cameras if camera.lag_median_s is not None]
    slow = [camera.lag_p95_s for camera in activity.cameras if camera.lag_p95_s is not None]
    aside = int(activity.total("set_aside"))
    figures = [
        ("Visits", f"{visits:,}", f"{top.visits:,} of {top.class_}" if top and top.visits else ""),
        ("Alerts", f"{alerts:,}", f"{held:,} not sent" if held else ""),
        ("Recorded", lasting(recorded), f"{min(1.0, recorded / elapsed):.1%} of the time"),
        ("Speech", lasting(activity.total("speech_s")), f"{int(activity.total('words')):,} words"),
        ("Scene changes", f"{int(activity.total('scenes')):,}", ""),
    ]
    if activity.ledgers:
        unexplained = activity.total("unexplained_s")
        remark = (
            f"and {lasting(unexplained)} without a cause" if unexplained >= 1 else f"in {len(activity.gaps):,} gaps"
        )
        figures.append(("Missing", lasting(gaps), remark))
    figures.append(("Set aside", f"{aside:,}", f"of {int(activity.total('windows')):,} windows"))
    if lags:
        figures.append(("Lag", lasting(max(lags)), f"put to result; 95%: {lasting(max(slow))}"))
    figures.append(("Cost", money(activity.total("cost_usd")), "US dollars, list prices"))
    return figures


def _strips(activity: Activity, camera: str) -> tuple[list[Bar], list[tuple[str, list[Bar]]], list[float]]:
    """Where a camera was recorded, where and why not, and where its alerts are."""
    period = activity.period
    recorded = plots.strip(period, ((row.start, row.end) for row in activity.windows if row.camera == camera))
    rows = [row for row in activity.gaps if row.camera == camera]
    gaps = [
        (cause, plots.strip(period, ((row.start, row.end) for row in rows if row.cause == cause)))
        for cause in sorted({row.cause for row in rows})
    ]
    alerts = [
        bar.x for row in activity.alerts if row.camera == camera for bar in plots.strip(period, [(row.time, row.time)])
    ]
    return recorded, gaps, alerts


def _by_cause(activity: Activity) -> list[tuple[str, int, float]]:
    """(cause, gaps, seconds), the longest first."""
    found = {row.cause for row in activity.gaps}
    rows = {cause: [row for row in activity.gaps if row.cause == cause] for cause in found}
    sums = [(cause, len(gaps), sum(gap.end - gap.start for gap in gaps)) for cause, gaps in rows.items()]
    return sorted(sums, key=lambda row: (-row[2], row[0]))


def _head(rows: Sequence[Any], most: int) -> Sequence[Any]:
    return rows[:most]


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(money=money, size=size, lasting=lasting, head=_head)
    return environment.get_template("activity.html")


_TEMPLATE: Final = _template()
