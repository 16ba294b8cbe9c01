"""What the page about one media shows, as plain data; the page puts every string of it into text, never into markup."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from flows.explorer.source import is_within_reach, source_of
from flows.summary import label
from tasks.core.publish import timeline
from tasks.core.publish.palette import class_colors
from tasks.core.publish.player import playable, shows_video, source_name, source_text
from tasks.core.publish.tables import SCHEMAS, camera_of, recorded_at
from tasks.core.schema import Chunk, Clip, Interval, Result
from tasks.records.results import VIEWS, VIEWS_MARKER, result_path, table_path
from tasks.store import Store

LANES: Final = 12
"""Most object classes that get a lane of the timeline."""

_NAMES: Final = {
    "srt": "Subtitles (SRT)",
    "vtt": "Subtitles (WebVTT)",
    "contact_sheet": "Contact sheet",
    "report": "Report",
    "storyboard": "Storyboard",
    "storyboard_vtt": "Storyboard (WebVTT)",
}
_CLIP: Final = re.compile(r"clips/[0-9a-f]{16,64}/[a-z0-9_]{1,40}\.(?:mp4|m4a)")


def files(media_id: str) -> dict[str, tuple[str, str]]:
    """What may be downloaded of a media: label and path in the store, by the name in the address."""
    views = {file: (_NAMES.get(name, name), f"media/{media_id}/{file}") for name, file in VIEWS.items()}
    tables = {f"{name}.parquet": (f"Table: {name}", table_path(name, media_id)) for name in SCHEMAS}
    return {"result.json": ("Result (JSON)", result_path(media_id)), **views, **tables}


def clip_path(media_id: str, clip: Clip) -> str | None:
    """Path of a clip in the store, None where its URI names anything else.

    The store may lie elsewhere by now than when the clip was cut: only what follows the media's folder counts.
    """
    inside = clip.uri.rpartition(f"/media/{media_id}/")[2]
    return f"media/{media_id}/{inside}" if _CLIP.fullmatch(inside) else None


def media_page(store: Store, result: Result, runs_url: str | None) -> dict[str, Any]:
    """Everything but the pictures and the media itself. `runs_url` is the address of the Prefect UI."""
    video, duration = result.media.video, result.media.duration_s
    named = [name for name, _ in sorted(result.detections.classes.items(), key=lambda item: (-item[1], item[0]))]
    colors = class_colors(named)
    recorded = recorded_at(result.source)
    return {
        "media_id": result.media_id,
        "name": source_name(result.source),
        "source": source_text(result.source),
        "camera": camera_of(result.source),
        "recorded": recorded.isoformat() if recorded else None,
        "created": result.created.isoformat(),
        "notice": result.notice,
        "silence": result.silence,
        "duration": duration,
        "size": [video.width, video.height] if video else None,
        "fps": float(video.fps) if video else 25.0,
        "player": _player(result),
        "language": result.transcript.language,
        "segments": [
            {"start": s.start, "end": max(s.start, s.end), "text": s.text.strip()} for s in result.transcript.segments
        ],
        "classes": [{"name": name, "color": colors[name], "count": result.detections.classes[name]} for name in named],
        "frames": _frames(result, named),
        "timeline": _timeline(result, named),
        "scenes": [scene.model_dump() for scene in sorted(result.scenes, key=lambda scene: scene.time)],
        "tags": [tag.model_dump() for tag in result.tags],
        "caption": result.caption.model_dump() if result.caption else None,
        "chunks": [_chunk(chunk) for chunk in result.chunks],
        "files": _files(store, result),
        "runs": _runs(runs_url, result.source) if runs_url else None,
    }


def _player(result: Result) -> dict[str, Any]:
    """Stretches of media time with an address each: the source, which a browser may or may not play, and the clips."""
    source = source_of(result)
    here = f"/api/media/{result.media_id}"
    reachable = is_within_reach(source) and shows_video(result.media)
    whole = [{"start": 0.0, "end": result.media.duration_s, "src": f"{here}/source"}] if reachable else []
    clips = [
        {"start": clip.start, "end": clip.end, "src": f"{here}/clips/{number}"}
        for number, clip in enumerate(result.clips)
        if clip_path(result.media_id, clip)
    ]
    return {
        "kind": "video" if result.media.video else "audio",
        "choices": [pieces for pieces in ([whole, clips] if playable(result.media) else [clips, whole]) if pieces],
    }


def _frames(result: Result, named: list[str]) -> list[list[Any]]:
    """[time, boxes] of each sampled frame; a box is [class number, confidence, x1, y1, x2, y2]."""
    numbers = {name: number for number, name in enumerate(named)}
    return [
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


def _timeline(result: Result, named: list[str]) -> dict[str, Any]:
    """Bars of each lane as [x, width, weight], x and width in percent of the media's length."""
    duration = result.media.duration_s
    counts = timeline.count_boxes(result.detections)
    spoken = [Interval(start=s.start, end=max(s.start, s.end)) for s in result.transcript.segments]

    def bars(found: list[timeline.Bar]) -> list[list[float]]:
        return [[bar.x, bar.width, bar.weight] for bar in found]

    return {
        "ticks": [[tick.at, tick.label] for tick in timeline.ticks(duration)],
        "speech": bars(timeline.spans(spoken, duration)),
        "objects": [bars(timeline.density(counts, name, duration)) for name in named[:LANES]],
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "start": chunk.start,
        "end": chunk.end,
        "tags": [tag.text for tag in chunk.tags],
        "caption": chunk.caption.text if chunk.caption else None,
    }


def _files(store: Store, result: Result) -> list[dict[str, Any]]:
    """The downloads that are there, as the marker of the views says; one read."""
    found = store.read(f"media/{result.media_id}/{VIEWS_MARKER}")
    try:
        sizes = dict(json.loads(found[0])["files"]) if found else {}
    except (ValueError, KeyError, TypeError):
        sizes = {}
    return [
        {"label": text, "name": name, "href": f"/api/media/{result.media_id}/files/{name}", "bytes": sizes.get(path)}
        for name, (text, path) in files(result.media_id).items()
        if path in sizes or name == "result.json"
    ]


def _runs(ui: str, source: str) -> str:
    """The runs of this source in the Prefect UI: a result says nothing of its run, whose name holds the source's."""
    return f"{ui.rstrip('/')}/runs?flow-run-search={quote(f'analyze: {label(source)}', safe='')}"
