"""A batch of sampled frames, and the one file that it is stored in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.errors import CorruptMedia
from tasks.core.options import FrameOptions
from tasks.core.shots import ShotScores

Use = Literal["index", "slot"]
"""The column that numbers the frames which are asked for."""

SCHEMA = pa.schema([("index", pa.int64()), ("slot", pa.int64()), ("time", pa.float64()), ("image", pa.binary())])
ROWS_PER_GROUP = 8
"""Small row groups let a reader take some frames without the others' bytes."""

MAX_SIDE_PX = 16_384


@dataclass
class Frames:
    """T sampled frames in order of time."""

    images: list[np.ndarray]
    """BGR uint8, (height, width, 3) each; scaled down to options.max_side."""
    times: list[float]
    """Media time of each frame, from the container, seconds."""
    indexes: list[int | None]
    """Ordinal of each frame among the media's samples; None where it is only to be embedded."""
    width: int
    """Of the displayed source frame, pixels."""
    height: int
    slots: list[int | None] = field(default_factory=list)
    """Ordinal of each frame among those to be embedded, None where it is not; empty where none is."""
    shots: ShotScores | None = None
    """Of every frame of the batch's stretch, where that was asked for; kept in a file of its own."""

    def __len__(self) -> int:
        return len(self.images)


def save_frames(frames: Frames, path: Path, options: FrameOptions) -> None:
    """Writes one Parquet file: index, slot, time and image (JPEG of options.quality), source size in the metadata."""
    import cv2

    # Full colour resolution (4:4:4) keeps the counts of small objects: see benchmarks/README.md.
    coding = [cv2.IMWRITE_JPEG_QUALITY, options.quality]
    coding += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded = []
    for image in frames.images:
        done, data = cv2.imencode(".jpg", image, coding)
        if not done:
            raise ValueError(f"a frame of shape {image.shape} cannot be written as JPEG")
        encoded.append(data.tobytes())
    schema = SCHEMA.with_metadata({"width": str(frames.width), "height": str(frames.height), "color": "bgr"})
    slots = frames.slots or [None] * len(frames)
    columns = {"index": frames.indexes, "slot": slots, "time": frames.times, "image": encoded}
    table = pa.table(columns, schema=schema)
    pq.write_table(table, path, compression="none", row_group_size=ROWS_PER_GROUP, use_dictionary=False)


def load_frames(path: Path, use: Use = "index") -> Frames:
    """Reads from what save_frames wrote the frames with an ordinal: the samples, or (`slot`) those to be embedded.

    Raises CorruptMedia when the artifact is damaged.
    """
    table, (width, height) = _read(path, ["index", "slot", "time", "image"], use)
    return Frames(
        images=[decode_image(data.as_py(), path) for data in table["image"]],
        times=table["time"].to_pylist(),
        indexes=table["index"].to_pylist(),
        width=width,
        height=height,
        slots=table["slot"].to_pylist(),
    )


def load_frame_times(path: Path) -> tuple[list[int], list[float]]:
    """Ordinals and times of a stored batch's samples, without reading images."""
    table, _ = _read(path, ["index", "time"], "index")
    return table["index"].to_pylist(), table["time"].to_pylist()


def load_encoded_frames(path: Path) -> list[bytes]:
    """JPEG bytes of a stored batch's samples, not decoded: for thumbnails and contact sheets."""
    table, _ = _read(path, ["index", "image"], "index")
    return list(table["image"].to_pylist())


def decode_image(data: bytes, path: Path, least_width: int | None = None) -> np.ndarray:
    """BGR uint8 (height, width, 3) from a stored image.

    With a least width, a wider image comes at an eighth, a quarter or half of its size, decoded no further than that.
    """
    import cv2

    encoded = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR if least_width is None else cv2.IMREAD_REDUCED_COLOR_8)
    for wider in (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_COLOR):
        if image is None or least_width is None or image.shape[1] >= least_width:
            break
        image = cv2.imdecode(encoded, wider)
    if image is None or max(image.shape) > MAX_SIDE_PX:
        raise CorruptMedia(f"{path}: a stored frame is damaged; delete the artifact and run again")
    return np.asarray(image)


def _read(path: Path, columns: list[str], use: Use) -> tuple[pa.Table, tuple[int, int]]:
    try:
        table = pq.read_table(path, columns=columns)
        metadata = table.schema.metadata or {}
        return table.filter(pc.is_valid(table[use])), (int(metadata[b"width"]), int(metadata[b"height"]))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise CorruptMedia(f"{path}: not a batch of frames; delete the artifact and run again") from error
