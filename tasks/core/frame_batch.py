"""A batch of sampled frames, and the one file that it is stored in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import CorruptMedia
from tasks.core.options import FrameOptions

SCHEMA = pa.schema([("index", pa.int64()), ("time", pa.float64()), ("image", pa.binary())])
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
    indexes: list[int]
    """Ordinal of each frame among the media's samples."""
    width: int
    """Of the displayed source frame, pixels."""
    height: int

    def __len__(self) -> int:
        return len(self.images)


def save_frames(frames: Frames, path: Path, options: FrameOptions) -> None:
    """Writes one Parquet file: columns index, time and image (JPEG of options.quality), source size in the metadata."""
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
    table = pa.table({"index": frames.indexes, "time": frames.times, "image": encoded}, schema=schema)
    pq.write_table(table, path, compression="none", row_group_size=ROWS_PER_GROUP, use_dictionary=False)


def load_frames(path: Path) -> Frames:
    """Reads what save_frames wrote. Raises CorruptMedia when the artifact is damaged."""
    table, (width, height) = _read(path, ["index", "time", "image"])
    return Frames(
        images=[decode_image(data.as_py(), path) for data in table["image"]],
        times=table["time"].to_pylist(),
        indexes=table["index"].to_pylist(),
        width=width,
        height=height,
    )


def load_frame_times(path: Path) -> tuple[list[int], list[float]]:
    """Ordinals and times of a stored batch, without reading its images."""
    table, _ = _read(path, ["index", "time"])
    return table["index"].to_pylist(), table["time"].to_pylist()


def load_encoded_frames(path: Path) -> list[bytes]:
    """JPEG bytes of a stored batch, not decoded: for thumbnails and contact sheets."""
    table, _ = _read(path, ["image"])
    return list(table["image"].to_pylist())


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """BGR uint8 (height, width, 3) from a stored image."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or max(image.shape) > MAX_SIDE_PX:
        raise CorruptMedia(f"{path}: a stored frame is damaged; delete the artifact and run again")
    return np.asarray(image)


def _read(path: Path, columns: list[str]) -> tuple[pa.Table, tuple[int, int]]:
    try:
        table = pq.read_table(path, columns=columns)
        metadata = table.schema.metadata or {}
        return table, (int(metadata[b"width"]), int(metadata[b"height"]))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise CorruptMedia(f"{path}: not a batch of frames; delete the artifact and run again") from error
