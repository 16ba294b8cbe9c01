"""Views of a committed result: tables, subtitles, contact sheet, report; rewritten whole, never patched."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tasks.artifacts import artifact_file
from tasks.core import audio as track
from tasks.core.frame_batch import decode_image, load_encoded_frames, load_frame_times
from tasks.core.publish import contact_sheet, report, subtitles, tables, waveform
from tasks.core.schema import Findings, FrameDetections, Interval, MediaRef, Result
from tasks.lookup import source_file
from tasks.results import VIEWS, mark_views, table_path, views_are_fresh
from tasks.speech import AUDIO, load_segments
from tasks.store import Store
from tasks.vision import FRAMES


def write_views(store: Store, media: MediaRef, result: Result, findings: Findings) -> None:
    """Makes every view that is missing or was made from another result."""
    if views_are_fresh(store, result):
        return
    peaks = waveform.peaks(track.load_audio(artifact_file(findings.audio, AUDIO)))
    sheet = _sheet(result, findings, peaks)
    with source_file(media) as player:
        page = report.report(result, sheet_jpeg=sheet, player=player, player_url=_player_url(media.source), peaks=peaks)
    files = {
        "srt": subtitles.srt(result).encode(),
        "vtt": subtitles.vtt(result).encode(),
        "contact_sheet": sheet,
        "report": page.encode(),
    }
    sizes = {}
    for name, content in files.items():
        path = f"media/{media.media_id}/{VIEWS[name]}"
        store.write(path, content)
        sizes[path] = len(content)
    for name, frame in tables.tables(result).items():
        path = table_path(name, media.media_id)
        with store.workspace() as work:
            part = work / "part.parquet"
            tables.write_table(frame, part, name)
            sizes[path] = part.stat().st_size
            store.put(path, part)
    mark_views(store, result, sizes)


def _sheet(result: Result, findings: Findings, peaks: list[float]) -> bytes:
    rows = [
        (artifact_file(ref, FRAMES), row, time)
        for ref in findings.frames
        for row, time in enumerate(load_frame_times(artifact_file(ref, FRAMES))[1])
    ]
    if not rows:
        speech: list[Interval] = load_segments(findings.segments)
        return contact_sheet.audio_sheet(peaks, result.media.duration_s, speech)
    found = result.detections.frames or [
        FrameDetections(index=number, time=time) for number, (_, _, time) in enumerate(rows)
    ]
    chosen = contact_sheet.choose(found)
    encoded: dict[Path, list[bytes]] = {}
    images = []
    for position in chosen:
        path, row, _ = rows[position]
        images.append(decode_image(encoded.setdefault(path, load_encoded_frames(path))[row], path))
    video = result.media.video
    size = (video.width, video.height) if video else (1, 1)
    return contact_sheet.contact_sheet(images, [found[position] for position in chosen], size)


def _player_url(source: str) -> str | None:
    """A link to the source that a browser on this host can follow; objects in buckets have none."""
    if source.startswith("file://"):
        return source
    return None if urlsplit(source).scheme in {"s3", "http", "https"} else Path(source).resolve().as_uri()
