"""Views of a committed result: tables, subtitles, contact sheet, report; rewritten whole, never patched."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tasks.core import audio as track
from tasks.core.frame_batch import decode_image, load_encoded_frames, load_frame_times, load_thumbnails
from tasks.core.publish import contact_sheet, report, storyboard, subtitles, tables, waveform
from tasks.core.schema import Findings, FrameDetections, Interval, MediaRef, Result
from tasks.records.artifacts import artifact_file
from tasks.records.lookup import source_file
from tasks.records.results import VIEWS, mark_views, table_path, views_are_fresh
from tasks.stages.speech import AUDIO, load_segments
from tasks.stages.vision import FRAMES, load_embedded
from tasks.store import Store


def write_views(store: Store, media: MediaRef, result: Result, findings: Findings) -> None:
    """Makes every view that is missing or was made from another result."""
    if views_are_fresh(store, result):
        return
    peaks = waveform.peaks(track.load_audio(artifact_file(findings.audio, AUDIO)))
    frames = _Stored(findings)
    sheet = _sheet(result, findings, frames, peaks)
    with source_file(media) as player:
        page = report.report(result, sheet_jpeg=sheet, player=player, player_url=_player_url(media.source), peaks=peaks)
    files = {
        "srt": subtitles.srt(result).encode(),
        "vtt": subtitles.vtt(result).encode(),
        "contact_sheet": sheet,
        "report": page.encode(),
    }
    if frames.times:
        chosen = storyboard.choose(frames.times, result.media.duration_s)
        small = ((frames.times[at], frames.thumbnail(at)) for at in chosen)
        files["storyboard"], track_text = storyboard.storyboard(small, result.media.duration_s)
        files["storyboard_vtt"] = track_text.encode()
    sizes = {}
    for name, content in files.items():
        path = f"media/{media.media_id}/{VIEWS[name]}"
        store.write(path, content)
        sizes[path] = len(content)
    for name, table in tables.arrow_tables(result, load_embedded(findings.embeddings)).items():
        path = table_path(name, media.media_id)
        with store.workspace() as work:
            part = work / "part.parquet"
            tables.write_table(table, part, name)
            sizes[path] = part.stat().st_size
            store.put(path, part)
    mark_views(store, result, sizes)


class _Stored:
    """The sampled frames of a media, read and decoded when they are asked for, a batch at a time."""

    def __init__(self, findings: Findings) -> None:
        self._rows = [
            (path, row, time)
            for path in (artifact_file(ref, FRAMES) for ref in findings.frames)
            for row, time in enumerate(load_frame_times(path)[1])
        ]
        self.times = [time for _, _, time in self._rows]
        self._encoded = lru_cache(maxsize=1)(load_encoded_frames)
        self._thumbnails = lru_cache(maxsize=1)(load_thumbnails)

    def image(self, at: int, least_width: int) -> np.ndarray:
        """BGR picture of the frame at this position; see decode_image."""
        path, row, _ = self._rows[at]
        return decode_image(self._encoded(path)[row], path, least_width)

    def thumbnail(self, at: int) -> np.ndarray:
        """Small BGR picture of the frame at this position."""
        path, row, _ = self._rows[at]
        return self._thumbnails(path)[row]


def _sheet(result: Result, findings: Findings, frames: _Stored, peaks: list[float]) -> bytes:
    if not frames.times:
        speech: list[Interval] = load_segments(findings.segments)
        return contact_sheet.audio_sheet(peaks, result.media.duration_s, speech)
    found = result.detections.frames or [
        FrameDetections(index=number, time=time) for number, time in enumerate(frames.times)
    ]
    chosen = contact_sheet.choose(found)
    images = [frames.image(position, contact_sheet.TILE[0]) for position in chosen]
    video = result.media.video
    size = (video.width, video.height) if video else (1, 1)
    heading = [result.caption.text] if result.caption else []
    if result.tags:
        heading.append(", ".join(tag.text for tag in result.tags))
    return contact_sheet.contact_sheet(images, [found[position] for position in chosen], size, heading=heading)


def _player_url(source: str) -> str | None:
    """A link to the source that a browser on this host can follow; objects in buckets have none."""
    if source.startswith("file://"):
        return source
    return None if urlsplit(source).scheme in {"s3", "http", "https"} else Path(source).resolve().as_uri()
