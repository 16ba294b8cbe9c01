"""A camera's recordings in a folder, and what was found in them committed to a store as `analyze` would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from tasks.core.listing import Selection, list_media
from tasks.core.options import AnalyzeOptions
from tasks.core.schema import (
    AnalyzeReport,
    AudioStream,
    Detections,
    FrameDetections,
    MediaInfo,
    Result,
    SceneChange,
    Segment,
    Transcript,
    VideoStream,
)
from tasks.core.tracking.records import Window
from tasks.records.results import commit_result, result_path
from tasks.records.sources import remember
from tasks.settings import settings
from tasks.store import Store


def window_path(folder: Path, camera: str, start: float, sequence: int) -> Path:
    """Where `ingest` puts a window."""
    moment = datetime.fromtimestamp(round(start, 3), UTC)
    day = folder / f"camera={camera}" / f"{moment:%Y/%m/%d}"
    day.mkdir(parents=True, exist_ok=True)
    return day / f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{sequence:08d}.mp4"


def record(folder: Path, windows: Sequence[Window], *, first: int = 0) -> list[Path]:
    """Files that stand for windows: their content is their name, nobody decodes it."""
    paths = []
    for number, window in enumerate(windows, first):
        path = window_path(folder, window.camera, window.start, number)
        path.write_text(path.name)
        paths.append(path)
    return paths


def analysed(
    store: Store,
    path: Path,
    media_id: str,
    frames: list[FrameDetections],
    *,
    size: tuple[int, int] = (640, 360),
    duration_s: float = 3.0,
    fps: float = 5.0,
    said: Sequence[tuple[float, float, str]] = (),
    scenes: Sequence[float] = (),
    audio: AudioStream | None = None,
    cost: float = 0.0,
    error: str | None = None,
) -> None:
    """Commits what was found in a window, or sets it aside."""
    [listed] = [each for each in list_media(str(path.parent), Selection(), settings().s3) if each.source == str(path)]
    if error is None:
        video = VideoStream(
            index=0, codec="h264", width=size[0], height=size[1], fps=Fraction(10), start=0.0, duration_s=duration_s
        )
        segments = [Segment(id=number, start=a, end=b, text=text) for number, (a, b, text) in enumerate(said)]
        commit_result(
            store,
            Result(
                media_id=media_id,
                key="k",
                source=str(path),
                media=MediaInfo(
                    container="mp4", bytes=1, duration_s=duration_s, start_offset_s=0.0, video=video, audio=audio
                ),
                options={},
                models={},
                transcript=Transcript(segments=segments),
                clips=[],
                detections=Detections(frames_sampled=len(frames), sample_fps=fps, frames=frames),
                scenes=[SceneChange(time=at, method="shot", score=1.0) for at in scenes],
                artifacts={},
                timing={},
                cost={"total": cost},
                created=datetime.now(UTC),
            ),
        )
    report = AnalyzeReport(
        source=str(path),
        media_id=media_id,
        status="quarantined" if error else "done",
        result=None if error else store.uri(result_path(media_id)),
        seconds=0.0,
        cached=False,
        error={"code": "corrupt", "message": error} if error else None,
    )
    remember(store, str(path), listed.version, AnalyzeOptions(), report)


def analyse_all(store: Store, paths: Sequence[Path], windows: Sequence[Window]) -> None:
    for path, window in zip(paths, windows, strict=True):
        assert window.media_id
        analysed(store, path, window.media_id, window.frames, fps=window.sample_fps or 5.0)
