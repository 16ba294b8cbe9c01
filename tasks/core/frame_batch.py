"""A batch of sampled frames, and the one file that it is stored in."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from tasks.core.errors import DamagedArtifact
from tasks.core.frame_plan import THUMBNAIL
from tasks.core.options import FrameOptions
from tasks.core.shots import ShotScores

Use = Literal["index", "slot"]
"""The column that numbers the frames which are asked for."""

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("slot", pa.int64()),
        ("time", pa.float64()),
        ("image", pa.binary()),
        ("thumbnail", pa.binary()),
    ]
)
ROWS_PER_GROUP = 8
"""Small row groups let a reader take some frames without the others' bytes."""

MAX_SIDE_PX = 16_384

THUMBNAIL_QUALITY = 90


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
    """Writes one Parquet file: index, slot, time, image (JPEG of options.quality), and of samples a small picture.

    The size of the source is in the metadata.
    """
    # Full colour resolution (4:4:4) keeps the counts of small objects: see benchmarks/README.md.
    encoded = [_encode(image, options.quality, full_color=True) for image in frames.images]
    small = [
        None if index is None else _encode(_shrink(image), THUMBNAIL_QUALITY, full_color=False)
        for index, image in zip(frames.indexes, frames.images, strict=True)
    ]
    schema = SCHEMA.with_metadata({"width": str(frames.width), "height": str(frames.height), "color": "bgr"})
    slots = frames.slots or [None] * len(frames)
    columns = {"index": frames.indexes, "slot": slots, "time": frames.times, "image": encoded, "thumbnail": small}
    table = pa.table(columns, schema=schema)
    pq.write_table(table, path, compression="none", row_group_size=ROWS_PER_GROUP, use_dictionary=False)


def load_frames(path: Path, use: Use = "index") -> Frames:
    """Reads from what save_frames wrote the frames with an ordinal: the samples, or (`slot`) those to be embedded.

    Raises DamagedArtifact when the artifact is damaged.
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
    """JPEG bytes of a stored batch's samples, not decoded."""
    table, _ = _read(path, ["index", "image"], "index")
    return list(table["image"].to_pylist())


def load_thumbnails(path: Path) -> list[np.ndarray]:
    """Small pictures of a stored batch's samples: BGR uint8, THUMBNAIL at most."""
    table, _ = _read(path, ["index", "thumbnail"], "index")
    return [decode_image(data.as_py(), path) for data in table["thumbnail"]]


def decode_image(data: bytes, path: Path, least_width: int | None = None) -> np.ndarray:
    """BGR uint8 (height, width, 3) from a stored image.

    With a least width, a wider image comes at an eighth, a quarter or half of its size, decoded no further than that.
    """
    import cv2

    mode = cv2.IMREAD_COLOR
    if least_width is not None:
        width = _width(data, path)
        scales = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
        mode = next((reduced for scale, reduced in scales.items() if width >= scale * least_width), mode)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if image is None or max(image.shape) > MAX_SIDE_PX:
        raise DamagedArtifact(f"{path}: a stored frame is damaged")
    return np.asarray(image)


def _width(data: bytes, path: Path) -> int:
    """From the image's header."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            return header.width
    except (OSError, Image.DecompressionBombError) as error:
        raise DamagedArtifact(f"{path}: a stored frame is damaged") from error


def _encode(image: np.ndarray, quality: int, *, full_color: bool) -> bytes:
    import cv2

    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_color else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    coding = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, data = cv2.imencode(".jpg", image, coding)
    if not done:
        raise ValueError(f"a frame of shape {image.shape} cannot be written as JPEG")
    return data.tobytes()


def _shrink(image: np.ndarray) -> np.ndarray:
    """The image as a thumbnail; itself where it is as small."""
    import cv2

    height, width = image.shape[:2]
    scale = min(THUMBNAIL[0] / width, THUMBNAIL[1] / height)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _read(path: Path, columns: list[str], use: Use) -> tuple[pa.Table, tuple[int, int]]:
    try:
        with pq.ParquetFile(path) as file:  # read_table prepares for data sets of many files: a millisecond for each
            table = file.read(columns=columns, use_threads=False)
        metadata = table.schema.metadata or {}
        return table.filter(pc.is_valid(table[use])), (int(metadata[b"width"]), int(metadata[b"height"]))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DamagedArtifact(f"{path}: not a batch of frames") from error
