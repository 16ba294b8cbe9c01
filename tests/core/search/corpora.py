"""A few analysed media as Parquet parts in a folder, and both kinds of corpus over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.embeddings import Embeddings
from tasks.core.publish.tables import tables, write_table
from tasks.core.schema import Box, Detections, FrameDetections, ModelInfo, Result, Segment, Transcript
from tasks.core.search.build import build
from tasks.core.search.corpus import Corpus
from tasks.core.search.lance import open_index
from tasks.core.search.parts import PartsCorpus
from tasks.core.search.rows import TABLES
from tests.core.publish.results import media, result

MODEL = "e" * 64


def media_id(number: int) -> str:
    return f"{number:032x}"


def said(*texts: str, language: str = "en", each_s: float = 4.0) -> Transcript:
    segments = [Segment(id=n, start=n * each_s, end=(n + 1) * each_s, text=text) for n, text in enumerate(texts)]
    return Transcript(language=language, text=" ".join(texts), segments=segments)


def seen(*frames: str | Sequence[tuple[str, float]], step_s: float = 1.0) -> Detections:
    """Each frame is the classes in it, `"car car person"` (confidence 0.9), or (class, confidence) pairs."""
    made = []
    for index, frame in enumerate(frames):
        pairs = [(name, 0.9) for name in frame.split()] if isinstance(frame, str) else frame
        boxes = [Box(xyxy=(0, 0, 10, 10), class_=name, confidence=sure) for name, sure in pairs]
        made.append(FrameDetections(index=index, time=index * step_s, boxes=boxes))
    return Detections(frames_sampled=len(made), sample_fps=1 / step_s, classes={}, frames=made)


def analysed(number: int, duration_s: float = 40.0, **changes: Any) -> Result:
    """Nothing said, seen or described but what `changes` say."""
    plain: dict[str, Any] = {
        "media_id": media_id(number),
        "key": f"{number:064x}",
        "source": f"s3://bucket/video/{number}.mp4",
        "media": media(duration_s=duration_s),
        "transcript": Transcript(),
        "detections": Detections(),
        "scenes": [],
        "tags": [],
        "caption": None,
        "chunks": [],
        "models": {"embeddings": ModelInfo(name="siglip", digest=MODEL)},
    }
    return result(**{**plain, **changes})


def vectors(*places: float, size: int = 8) -> Embeddings:
    """One frame a second; each is a direction between the first axis (0) and the second (1)."""
    angles = np.asarray(places) * np.pi / 2
    made = np.zeros((len(places), size), np.float32)
    made[:, 0], made[:, 1] = np.cos(angles), np.sin(angles)
    return Embeddings(list(range(len(places))), [float(at) for at in range(len(places))], made)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Any text is the second axis."""
    return np.tile(np.eye(8, dtype=np.float32)[1], (len(texts), 1))


class Folder:
    """A folder of parts, as a store keeps them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, made: Result, embedded: Embeddings | None = None) -> None:
        for name, frame in tables(made, embedded).items():
            part = self.path(name, made.media_id)
            part.parent.mkdir(parents=True, exist_ok=True)
            write_table(frame, part, name)

    def path(self, table: str, media: str) -> Path:
        return self.root / "tables" / table / f"media_id={media}" / "part.parquet"

    def read(self, table: str, media: str, version: str) -> Path:
        return self.path(table, media)

    def parts(self) -> dict[str, dict[str, str]]:
        """By media, the version of each table's part."""
        found: dict[str, dict[str, str]] = {}
        for table in TABLES:
            for part in sorted((self.root / "tables" / table).glob("*/part.parquet")):
                status = part.stat()
                version = f"{status.st_size}-{status.st_mtime_ns}"
                found.setdefault(part.parent.name.removeprefix("media_id="), {})[table] = version
        return found

    def remove(self, media: str) -> None:
        for table in TABLES:
            self.path(table, media).unlink()

    def corpus(self, kind: str) -> Corpus:
        """tables: over the parts. index: over an index that is built, or brought up to date, just now."""
        if kind == "tables":
            made = PartsCorpus(self.read)
            made.refresh(self.parts())
            return made
        build(self.index, self.parts(), self.read)
        opened = open_index(self.index)
        assert opened is not None
        return opened

    @property
    def index(self) -> Path:
        return self.root / "index"
