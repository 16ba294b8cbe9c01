"""report.html: one self-contained page about one result, safe to open whatever the media said or was called."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tasks.core.publish import subtitles, timeline
from tasks.core.publish.palette import class_colors
from tasks.core.publish.player import (
    EMBED_BYTES,
    data_uri,
    local_link,
    media_type,
    shows_video,
    source_name,
    source_text,
)
from tasks.core.publish.waveform import clock
from tasks.core.schema import Detections, Interval, MediaInfo, Result, SceneChange, StageTiming, Take

_HERE: Final = Path(__file__).parent
_LANES: Final = 8
_PLACES: Final = 4
_SERIES: Final = 7
_SAME_CHANGE_S: Final = 1.0


def report(
    result: Result,
    *,
    sheet_jpeg: bytes | None = None,
    player: Path | None = None,
    player_url: str | None = None,
    peaks: Sequence[float] = (),
    embed_bytes: int = EMBED_BYTES,
) -> str:
    """The page as HTML text (UTF-8 to be).

    `player` is a file that browsers play; up to `embed_bytes` it is put inside the page, a larger one is reached by
    `player_url` (relative or `file:`) if that is given. Without either, the page says that it has no player and its
    timeline still moves. `peaks` are amplitudes (0 to 1) at even steps over the whole media. The page links to nothing:
    it is mailed, and opened where nothing lies beside it; subtitles are saved out of it. Nothing in it requests
    anything from a network, and its content policy forbids it.
    Raises ValueError for an address of the player that is neither relative nor `file:`.
    """
    css, script = (_HERE / "report.css").read_text("utf-8"), (_HERE / "report.js").read_text("utf-8")
    if not shows_video(result.media):
        player = player_url = None
    source, kind = _player(player, player_url, embed_bytes, video=result.media.video is not None)
    named = [name for name, _ in sorted(result.detections.classes.items(), key=lambda item: (-item[1], item[0]))]
    colors = class_colors(named)
    duration = result.media.duration_s
    counts = timeline.count_boxes(result.detections)
    spoken = [Interval(start=s.start, end=max(s.start, s.end)) for s in result.transcript.segments]
    return _TEMPLATE.render(
        result=result,
        css=Markup(css),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(css, script, source),
        name=source_name(result.source),
        source=source_text(result.source),
        player=source,
        player_kind=kind,
        sheet=data_uri("image/jpeg", sheet_jpeg) if sheet_jpeg else None,
        data=_data(result, named, colors),
        figures=_figures(result, named),
        ticks=timeline.ticks(duration),
        speech=timeline.spans(spoken, duration),
        wave=timeline.wave(peaks),
        cuts=_cuts(result.scenes),
        scenes=timeline.spans([Interval(start=scene.time, end=scene.time) for scene in result.scenes], duration),
        lanes=[(name, colors[name], timeline.density(counts, name, duration)) for name in named[:_LANES]],
        chart=timeline.chart(counts, named[:_SERIES], duration),
        colors={**colors, "other": "#8a8f98"} if len(named) > _SERIES else colors,
        classes=_classes(result.detections, named),
        stages=_stages(result),
        facts=_facts(result),
        options=sorted(_flat(result.options)),
    )


def _policy(css: str, script: str, player: str | None) -> str:
    """Content-Security-Policy: only this very style and script run, only embedded or neighbouring media load."""
    css_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script)
    )
    media = "'none'" if player is None else "data:" if player.startswith("data:") else "'self' file:"
    return (
        f"default-src 'none'; style-src 'sha256-{css_hash}'; script-src 'sha256-{script_hash}'; img-src data:; "
        f"media-src {media}; base-uri 'none'; form-action 'none'"
    )


def _player(player: Path | None, url: str | None, embed_bytes: int, *, video: bool) -> tuple[str | None, str]:
    """(address of the media or None, `video` or `audio`)."""
    tag = "video" if video else "audio"
    if player is not None and player.stat().st_size <= embed_bytes and (kind := media_type(player)):
        return data_uri(kind, player.read_bytes()), tag
    return (local_link(url), tag) if url else (None, tag)


def _data(result: Result, named: list[str], colors: dict[str, str]) -> dict[str, Any]:
    """What the script needs, compact: classes by number, boxes as [class, confidence, x1, y1, x2, y2]."""
    numbers = {name: number for number, name in enumerate(named)}
    frames = [
        [
            round(frame.time, 3),
            [
                [numbers[box.class_], round(box.confidence, 2), *(round(edge, 1) for edge in box.xyxy)]
                for box in frame.boxes
                if box.class_ in numbers
            ],
        ]
        for frame in result.detections.frames
    ]
    video = result.media.video
    return {
        "duration": result.media.duration_s,
        "size": [video.width, video.height] if video else None,
        "fps": float(video.fps) if video else 25.0,
        "classes": [[name, colors[name]] for name in named],
        "frames": frames,
        "subtitles": {"srt": subtitles.srt(result), "vtt": subtitles.vtt(result)} if result.transcript.segments else {},
    }


def _figures(result: Result, named: list[str]) -> list[tuple[str, str, str]]:
    """(label, figure, remark) of the facts to be read first."""
    spoken = sum(segment.end - segment.start for segment in result.transcript.segments)
    found, share = result.detections, spoken / max(result.media.duration_s, 1e-9)
    boxes = sum(found.classes.values())
    words = len(result.transcript.text.split())
    work = sum(stage.wall_s for stage in result.timing.values())
    figures = [("Duration", clock(result.media.duration_s), size(result.media.bytes))]
    remark = f"{min(share, 1.0):.0%}, {words:,} words"
    figures.append(("Speech", clock(spoken), remark) if words else ("Speech", "none", result.silence or "no words"))
    if found.frames_sampled:
        remark = f"in {result.frames_with_boxes:,} of {found.frames_sampled:,} frames"
        figures.append(("Detections", f"{boxes:,}", remark))
        remark = f"{found.classes[named[0]]:,} boxes of {named[0]}" if named else "nothing found"
        figures.append(("Classes", str(len(named)), remark))
    if result.scenes:
        about = result.tags[0].text if result.tags else "cuts between shots"
        figures.append(("Scene changes", f"{len(_cuts(result.scenes)):,}", about))
    figures.append(("Work", seconds(work), f"{sum(stage.runs for stage in result.timing.values()):,} task runs"))
    figures.append(("Cost", money(result.cost.get("total", 0.0)), "US dollars, list prices"))
    return figures


def _cuts(scenes: Sequence[SceneChange]) -> list[dict[str, Any]]:
    """Changes as one sees them: a shot's time where both methods find it, and the first of frames that go on changing.

    The moving average takes a while to reach a new scene: its frames up to _SAME_CHANGE_S apart are one change.
    """
    named = {"shot": "cut between shots", "ema": "other content"}
    changes: list[dict[str, Any]] = []
    last = -math.inf
    for scene in sorted(scenes, key=lambda scene: (scene.time, scene.method == "ema")):
        if scene.method == "shot" or scene.time - last > _SAME_CHANGE_S:
            changes.append({"time": scene.time, "methods": named[scene.method]})
        last = scene.time
    return changes


def _classes(detections: Detections, named: list[str]) -> list[dict[str, Any]]:
    """Per class, in the order of `named`: boxes, frames, most in one frame, mean confidence, time of the first."""
    seen: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in named}
    for frame in detections.frames:
        here: dict[str, list[float]] = {}
        for box in frame.boxes:
            here.setdefault(box.class_, []).append(box.confidence)
        for name in here.keys() & seen.keys():
            seen[name].append((frame.time, here[name]))
    return [
        {
            "name": name,
            "boxes": detections.classes[name],
            "frames": len(frames),
            "most": max((len(confidences) for _, confidences in frames), default=0),
            "mean": fmean(chain.from_iterable(confidences for _, confidences in frames)) if frames else 0.0,
            "first": frames[0][0] if frames else 0.0,
        }
        for name, frames in seen.items()
    ]


def _stages(result: Result) -> list[dict[str, Any]]:
    """Stages in order, with bar lengths in percent of the longest wall plus queue time."""
    longest = max((stage.wall_s + stage.queue_s for stage in result.timing.values()), default=0.0) or 1.0

    def row(name: str, stage: StageTiming) -> dict[str, Any]:
        return {
            "name": name,
            "timing": stage,
            "queue": round(100 * stage.queue_s / longest, 2),
            "wall": round(100 * stage.wall_s / longest, 2),
            "cost": result.cost.get(name, 0.0),
        }

    return [row(name, stage) for name, stage in result.timing.items()]


def _facts(result: Result) -> list[tuple[str, str]]:
    media = result.media
    facts = [("Container", media.container), ("Size", size(media.bytes)), ("Duration", f"{media.duration_s:.3f} s")]
    if media.video:
        video = media.video
        pace = "variable, mean " if video.variable_fps else ""
        facts.append(("Video", f"{video.codec}, {video.width} x {video.height}, {pace}{float(video.fps):.3f} frames/s"))
        if video.rotation:
            facts.append(("Rotation", f"{video.rotation}\N{DEGREE SIGN} clockwise"))
    if media.audio:
        audio = media.audio
        channels = {1: "mono", 2: "stereo"}.get(audio.channels, f"{audio.channels} channels")
        spoken = f", {audio.language}" if audio.language else ""
        facts.append(("Audio", f"{audio.codec}, {audio.sample_rate:,} Hz, {channels}{spoken}"))
    if len(media.takes) > 1:
        facts.append(("Clock", _clock_jumps(media.takes)))
    if heard := result.transcript.channels:
        stretches = [f"{h.channel} from {clock(h.start)} to {clock(h.end)}" for h in heard[:6]]
        more = f", and {len(heard) - 6} more" if len(heard) > 6 else ""
        why = next((h.reason for h in heard if h.channel != "mix"), heard[0].reason)
        facts.append(("Heard on", f"{', '.join(stretches)}{more}: {why}"))
    if dropped := result.transcript.dropped:
        facts.append(("Left out", f"{dropped} texts that the model made up where nobody speaks"))
    if media.damaged:
        facts.append(("Damaged", _damage(media)))
    return [
        *facts,
        ("Media id", result.media_id),
        ("Result key", result.key),
        ("Analysed", f"{result.created:%Y-%m-%d %H:%M} {result.created.tzname() or ''}".strip()),
    ]


def _clock_jumps(takes: Sequence[Take]) -> str:
    """Where the recording's own clock starts again or jumps, the first few of the places."""
    jumps = [
        f"by {after.shift_s - before.shift_s:+,.1f} s at {clock(after.start)}" for before, after in pairwise(takes)
    ]
    more = f" and {len(jumps) - _PLACES} more times" if len(jumps) > _PLACES else ""
    return f"jumps {', '.join(jumps[:_PLACES])}{more}; the takes follow on each other here"


def _damage(media: MediaInfo) -> str:
    """What is lost, and where, the first few of the places."""
    kinds = {"cut_short": "the file ends", "missing": "missing", "undecodable": "undecodable"}
    places = [f"{kinds[one.kind]} at {clock(one.start)}" for one in media.damage[:_PLACES]]
    more = [f"{len(media.damage) - _PLACES} more places"] if len(media.damage) > _PLACES else []
    lost = f"{seconds(media.lost_s)} of it are lost" if media.lost_s else "some of it is lost"
    return "; ".join([lost, ", ".join([*places, *more])] if places else [lost])


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """`section.option` and its value as text."""
    rows: list[tuple[str, str]] = []
    for name, value in options.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return rows


def money(dollars: float) -> str:
    """US dollars with two significant digits below a cent."""
    if dollars >= 0.01 or dollars <= 0:
        return f"${dollars:,.2f}"
    return f"${dollars:.6f}".rstrip("0") if dollars >= 1e-6 else "<$0.000001"


def size(count: float) -> str:
    """Bytes in the unit that reads best, powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def seconds(value: float) -> str:
    """A length of time: `0.42 s`, `12.3 s`, `3:25`."""
    return clock(value) if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters.update(clock=clock, money=money, size=size, seconds=seconds)
    return environment.get_template("report.html")


_TEMPLATE: Final = _template()
"""Compiled with the import, which takes as long as filling it in for a long media."""
