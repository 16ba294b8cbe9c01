"""Formats for stored frames: bytes, write and read time for each, and what each does to YOLO's boxes.

Frames are sampled at 1 frame/s from a real video (REELFLOW_TEST_MEDIA) or a generated one, at 640x360 and 1280x720.
Every format is read back and its pictures compared before its times count; times are CPU milliseconds for one frame
on one thread, the least of the repeats. With weights (REELFLOW_MODELS_DIR) boxes found on the stored frames are
matched to those found on the raw ones: mean IoU of the matched, and the share that one side alone found.
"""

from __future__ import annotations

import functools
import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._agreement import SAME_IOU, iou
from benchmarks._results import Plot, Row, Table, parser, publish

NAME = "frame_formats"
SIZES = ((640, 360), (1280, 720))
WORST_PSNR_DB = 25.0
"""A format whose pictures come back worse than this is broken, not lossy."""

Images = list[np.ndarray]


@dataclass(frozen=True)
class Format:
    """One way to write a batch of BGR frames into one file, and to read it back."""

    name: str
    write: Callable[[Images, Path], None]
    read: Callable[[Path], Images]


def main(argv: Sequence[str]) -> None:
    """Measures every format at every size."""
    options = parser(NAME, __doc__)
    options.add_argument("--video", help="a video; default: one of REELFLOW_TEST_MEDIA, else a generated one")
    options.add_argument("--frames", type=int, default=16, help="frames in the batch")
    options.add_argument("--repeat", type=int, default=3, help="the least time of this many counts")
    arguments = options.parse_args(argv)
    import cv2

    cv2.setNumThreads(1)
    weights = _weights()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(arguments.video) if arguments.video else _default_video(Path(folder))
        tables = [
            _table(
                source, size, _measure(_frames(source, size, arguments.frames), weights, Path(folder), arguments.repeat)
            )
            for size in SIZES
        ]
    publish(
        arguments,
        NAME,
        __doc__,
        tables,
        weights=[weights] if weights else [],
        packages=("opencv-python-headless", "pillow", "pyarrow"),
    )


def _table(source: Path, size: tuple[int, int], rows: list[Row]) -> Table:
    note = "" if rows[0]["box IoU"] is not None else "No YOLO weights were found, so that boxes are not compared."
    plot = Plot("format", ("write ms", "read ms"), "bar", log_y=True, label="CPU ms per frame")
    return Table(f"{source.name} at {size[0]}x{size[1]}", rows, note, [plot])


def _measure(images: Images, weights: Path | None, folder: Path, repeat: int) -> list[Row]:
    detect = _detector(weights) if weights else None
    truth = detect(images) if detect else None
    rows: list[Row] = []
    path = folder / "batch"
    for way in _formats():
        write_ms = _least_ms(functools.partial(way.write, images, path), repeat) / len(images)
        size = path.stat().st_size
        read_ms = _least_ms(functools.partial(way.read, path), repeat) / len(images)
        restored = way.read(path)
        quality = _psnr(images, restored)
        assert quality >= WORST_PSNR_DB, f"{way.name}: frames come back at {quality:.1f} dB; it is broken"
        overlap, unmatched = _agreement(truth, detect(restored)) if detect and truth is not None else (None, None)
        rows.append(
            {
                "format": way.name,
                "kB/frame": size / len(images) / 1000,
                "write ms": write_ms,
                "read ms": read_ms,
                "PSNR dB": "lossless" if quality == np.inf else quality,
                "box IoU": overlap,
                "unmatched boxes": unmatched,
            }
        )
    return rows


def _formats() -> list[Format]:
    import cv2

    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    opencv: list[tuple[str, str, list[int]]] = [
        *((f"JPEG {q} (OpenCV)", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, q]) for q in (85, 90, 95)),
        *((f"JPEG {q}, 4:4:4 (OpenCV)", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, q, *full_colour]) for q in (90, 95)),
        ("PNG 1 (OpenCV)", ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        ("WebP 90 (OpenCV)", ".webp", [cv2.IMWRITE_WEBP_QUALITY, 90]),
    ]  # fmt: skip
    return [
        *(_in_parquet(name, _opencv_encoder(suffix, flags), _opencv_decode) for name, suffix, flags in opencv),
        *(_in_parquet(f"JPEG {q} (Pillow)", _pillow_encoder(q), _pillow_decode) for q in (85, 90, 95)),
        Format("MJPEG q2 (PyAV)", _write_mjpeg, _read_mjpeg),
        Format("raw BGR (npy)", _write_bgr, _read_bgr),
        Format("raw YUV 4:2:0 (npy)", _write_yuv, _read_yuv),
    ]


def _in_parquet(name: str, encode: Callable[[np.ndarray], bytes], decode: Callable[[bytes], np.ndarray]) -> Format:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(images: Images, path: Path) -> None:
        table = pa.table({"image": pa.array([encode(image) for image in images], pa.binary())})
        pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=8)

    def read(path: Path) -> Images:
        return [decode(value.as_py()) for value in pq.read_table(path, columns=["image"], use_threads=False)["image"]]

    return Format(f"{name}, Parquet", write, read)


def _opencv_encoder(suffix: str, flags: list[int]) -> Callable[[np.ndarray], bytes]:
    import cv2

    return lambda image: cv2.imencode(suffix, image, flags)[1].tobytes()


def _opencv_decode(data: bytes) -> np.ndarray:
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def _pillow_encoder(quality: int) -> Callable[[np.ndarray], bytes]:
    from PIL import Image

    def encode(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    return encode


def _pillow_decode(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(data)))[..., ::-1])


def _write_mjpeg(images: Images, path: Path) -> None:
    import av

    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=1, options={"qmin": "2", "qmax": "2", "threads": "1"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))


def _read_mjpeg(path: Path) -> Images:
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def _save_npy(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _load_npy(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, allow_pickle=False))


def _write_bgr(images: Images, path: Path) -> None:
    _save_npy(np.stack(images), path)


def _read_bgr(path: Path) -> Images:
    return list(_load_npy(path))


def _write_yuv(images: Images, path: Path) -> None:
    import cv2

    _save_npy(np.stack([cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420) for image in images]), path)


def _read_yuv(path: Path) -> Images:
    import cv2

    return [cv2.cvtColor(image, cv2.COLOR_YUV2BGR_I420) for image in _load_npy(path)]


def _least_ms(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat + 1):  # the first loads libraries
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times[1:])


def _psnr(before: Images, after: Images) -> float:
    error = np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(before, after, strict=True)])
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def _weights() -> Path | None:
    """The models folder's YOLO; None without one."""
    from tasks.core.errors import ModelNotFound
    from tasks.core.models.weights import resolve_yolo

    folder = os.environ.get("REELFLOW_MODELS_DIR")
    try:
        return resolve_yolo("auto", Path(folder) if folder else None, gpu=False).path
    except ModelNotFound:
        return None


def _detector(weights: Path) -> Callable[[Images], list[Any]]:
    """Boxes of each image."""
    import torch

    from tasks.core.models import yolo
    from tasks.core.options import DetectionOptions

    torch.set_num_threads(1)
    model = yolo.load(weights, "cpu", "float32", "torch")
    options = DetectionOptions(confidence=0.35)
    return lambda images: yolo.detect(model, images, (images[0].shape[1], images[0].shape[0]), options)


def _agreement(truth: list[Any], found: list[Any]) -> tuple[float, str]:
    """Mean IoU of boxes matched within their class, most confident first, and "unmatched / all" of both sides."""
    overlaps: list[float] = []
    total = 0
    for wanted, boxes in zip(truth, found, strict=True):
        total += len(wanted) + len(boxes)
        free = list(wanted)
        for box in boxes:
            overlap, place = max(
                ((iou(other.xyxy, box.xyxy), i) for i, other in enumerate(free) if other.class_ == box.class_),
                default=(0.0, 0),
            )
            if overlap >= SAME_IOU:
                overlaps.append(overlap)
                del free[place]
    return float(np.mean(overlaps)) if overlaps else 0.0, f"{total - 2 * len(overlaps)} / {total}"


def _default_video(folder: Path) -> Path:
    media = os.environ.get("REELFLOW_TEST_MEDIA")
    if media and (path := Path(media) / "video" / "people.mp4").is_file():
        return path
    import imageio_ffmpeg

    from tasks.core.sandbox.children import Bounds, run_program

    path = folder / "generated.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=16,noise=alls=12:allf=t"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", *source, "-crf", "20", str(path)]
    done = run_program(command, Bounds(300, 300), writes=[folder])
    if done.returncode != 0:
        raise SystemExit(f"no video could be generated: {done.stderr}")
    return path


def _frames(path: Path, size: tuple[int, int], count: int) -> Images:
    """Up to `count` frames, 1 frame/s, scaled to `size`."""
    import cv2

    from tasks.core.frame_plan import plan_batches
    from tasks.core.frames import sample_frames
    from tasks.core.options import AudioOptions, FrameOptions, LimitOptions
    from tasks.core.probe import probe

    info, options = probe(path, LimitOptions(), AudioOptions()), FrameOptions(batch_size=count, max_side=1280)
    batches = plan_batches(info, options)
    if not batches:
        raise SystemExit(f"{path.name} has no video")
    frames = sample_frames(path, info, batches[0], options, 1)
    return [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in frames.images]
