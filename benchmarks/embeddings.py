"""SigLIP frames per second: the engine of the pipeline next to the plain loop of transformers' processor and model.

Random weights of published dimensions (time does not depend on the values), frames in memory as the pipeline decodes
them. The plain loops are what the model's page shows: `AutoProcessor` on one PIL picture at a time, the same with a
batch of them, `SiglipModel.get_image_features`, default settings, in the same precision. Ours is `embed_images` on all
frames at once. Sides take turns; `speed / plain` compares neighbours in time. `products alone` is the time that the
network's matrix products take by themselves, with the same shapes and batch: what no implementation can go below.

The check: each frame's vector has a cosine of at least 0.9999 with the plain loop's (0.999 in half precision).
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._media import test_media
from benchmarks._results import Row, Table, parser, publish
from benchmarks._turns import Side, Times, alternate
from tasks.workers.threads import available_cores

NAME = "embeddings"
VIDEO = "video/bangkok_half_res.mp4"
SAME = {"float32": 0.9999, "float16": 0.999}

DIMENSIONS: dict[str, dict[str, int]] = {
    "base-patch16-224": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "base-patch16-384": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "large-patch16-256": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 16},
    "so400m-patch14-384": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14},
}
"""Vision towers of google/siglip-NAME; the last number is the side of the picture."""
INTERMEDIATE = {768: 3072, 1024: 4096, 1152: 4304}

Vectors = np.ndarray


def main(argv: Sequence[str]) -> None:
    """Measures each named model."""
    options = parser(NAME, __doc__)
    options.add_argument("--models", nargs="+", choices=tuple(DIMENSIONS), default=["base-patch16-224"])
    options.add_argument("--video", type=Path, help=f"frames to embed; default: {VIDEO} of REELFLOW_TEST_MEDIA")
    options.add_argument("--frames", type=int, default=16)
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--repeat", type=int, default=3, help="rounds that count; the median is shown")
    options.add_argument("--threads", type=int, default=available_cores())
    arguments = options.parse_args(argv)
    import torch

    torch.set_num_threads(arguments.threads)
    images = frames(arguments.video or test_media() / VIDEO, arguments.frames)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in arguments.models for row in measure(name, images, Path(folder) / name, arguments)]
    height, width = images[0].shape[:2]
    note = f"{len(images)} frames of {width}x{height}; {arguments.threads} threads; random weights."
    publish(arguments, NAME, __doc__, [Table("Frames in memory", rows, note)], packages=("transformers", "torchvision"))


def measure(name: str, images: list[np.ndarray], folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """One row per way of a model."""
    from tasks.core.models import siglip

    make_model(name, folder)
    model = siglip.load(folder, arguments.device)
    batch = siglip.GPU_BATCH if model.device == "cuda" else siglip.CPU_BATCH
    plain = plain_loop(folder, model.device, model.precision)
    ways: dict[str, Callable[[], Vectors]] = {
        "plain, one PIL picture at a time": functools.partial(plain, images, 1),
        f"plain, batches of {batch}": functools.partial(plain, images, batch),
        "ours": functools.partial(model.embed_images, images),
    }
    expected = plain(images, 1)
    spread = float((expected @ expected.T).min())
    assert spread < SAME[model.precision], "the frames are not told apart: nothing would be checked"
    alone = products(name, len(images), batch, model.device, model.precision)

    def check(way: str, vectors: Vectors) -> None:
        if way in ways:
            same_vectors(way, vectors, expected, SAME[model.precision])

    sides = {way: Side(run) for way, run in ways.items()} | {"products alone": Side(alone)}
    times = alternate(sides, arguments.repeat, check)
    return [_row(name, way, took, times, len(images)) for way, took in times.items()]


def _row(model: str, way: str, took: Times, times: dict[str, Times], count: int) -> Row:
    return {
        "model": model,
        "way": way,
        "frames/s": count / took.wall_s,
        "ms/frame": 1000 * took.wall_s / count,
        "CPU ms/frame": 1000 * took.cpu_s / count,
        "speed / plain": 1 / took.wall_ratio(times["plain, one PIL picture at a time"]),
        "products' share": 1 / took.wall_ratio(times["products alone"]),
    }


def same_vectors(way: str, found: Vectors, expected: Vectors, least: float) -> None:
    """Raises AssertionError unless each frame's vector points where it should."""
    assert found.shape == expected.shape, f"{way}: vectors {found.shape}, not {expected.shape}"
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() >= least, f"{way}: frame {int(cosines.argmin())}: cosine {cosines.min():.6f}, not {least}"


def make_model(name: str, folder: Path) -> None:
    """A folder with random weights in a published model's dimensions; the text tower, which is not timed, is small."""
    import shutil

    import torch
    from transformers import SiglipConfig, SiglipModel

    from tasks.core.models import bundled

    torch.manual_seed(1)
    hidden, side = DIMENSIONS[name]["hidden_size"], int(name.rpartition("-")[2])
    vision = DIMENSIONS[name] | {"intermediate_size": INTERMEDIATE[hidden], "image_size": side}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"vocab_size": 64, "projection_size": hidden, "bos_token_id": 2, "eos_token_id": 2}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled.SCENES_MODEL / file, folder)
    said = {"image_processor_type": "SiglipImageProcessor", "resample": 3, "size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")


def plain_loop(folder: Path, device: str, precision: str) -> Callable[[list[np.ndarray], int], Vectors]:
    """transformers as its documentation uses it: PIL pictures through the processor, a batch at a time."""
    import torch
    from PIL import Image
    from transformers import SiglipImageProcessor, SiglipModel

    processor: Any = SiglipImageProcessor.from_pretrained(folder)
    loaded: Any = SiglipModel.from_pretrained(folder, dtype=getattr(torch, precision))
    model = loaded.to(device).eval()

    def embed(images: list[np.ndarray], batch: int) -> Vectors:
        found = []
        for start in range(0, len(images), batch):
            pictures = [Image.fromarray(image[..., ::-1]) for image in images[start : start + batch]]
            inputs = processor(images=pictures, return_tensors="pt").to(device)
            with torch.no_grad():
                seen = model.get_image_features(**inputs).pooler_output.float()
            found.append(torch.nn.functional.normalize(seen, dim=-1).cpu().numpy())
        return np.concatenate(found)

    return embed


def products(name: str, count: int, batch: int, device: str, precision: str) -> Callable[[], Vectors]:
    """Only the matrix products of a vision tower's layers, attention's among them, for `count` frames in batches."""
    import torch

    hidden, layers = DIMENSIONS[name]["hidden_size"], DIMENSIONS[name]["num_hidden_layers"]
    heads, wide = DIMENSIONS[name]["num_attention_heads"], INTERMEDIATE[hidden]
    tokens = (int(name.rpartition("-")[2]) // DIMENSIONS[name]["patch_size"]) ** 2
    made = functools.partial(torch.randn, device=device, dtype=getattr(torch, precision))
    square, up, down = made(hidden, hidden), made(hidden, wide), made(wide, hidden)
    inputs = {}
    for rows in {batch, count % batch} - {0}:
        spread = made(rows * heads, tokens, hidden // heads)
        inputs[rows] = (
            made(rows * tokens, hidden),
            made(rows * tokens, wide),
            spread,
            spread.transpose(1, 2).contiguous(),
        )

    def run() -> Vectors:
        with torch.inference_mode():
            for start in range(0, count, batch):
                narrow, broad, spread, turned = inputs[min(batch, count - start)]
                for _ in range(layers):
                    for _ in range(4):
                        narrow @ square
                    (spread @ turned) @ spread
                    narrow @ up
                    broad @ down
            if device == "cuda":
                torch.cuda.synchronize()
        return np.zeros(0)

    return run


def frames(video: Path, count: int) -> list[np.ndarray]:
    """The first `count` frames at one a second, BGR, at the size that the pipeline stores."""
    from tasks.core.frame_plan import plan_batches
    from tasks.core.frames import sample_frames
    from tasks.core.options import AudioOptions, FrameOptions, LimitOptions
    from tasks.core.probe import probe

    options = FrameOptions(batch_size=count)
    info = probe(video, LimitOptions(), AudioOptions())
    found = sample_frames(video, info, plan_batches(info, options)[0], options, available_cores()).images
    if len(found) < count:
        raise SystemExit(f"{video.name} has {len(found)} frames at one a second; set --frames to that or less")
    return found[:count]
