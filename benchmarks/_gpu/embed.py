"""Frames per second of SigLIP in published dimensions, against the matrix products that it cannot do without."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks._gpu import Figures, Sizes
from benchmarks._gpu.media import frames, repeated, wait
from benchmarks._results import median
from benchmarks.embeddings import SAME, make_model, products, same_vectors
from tasks.core.models import siglip
from tasks.core.models.siglip_preprocess import preprocess

COMPARED = 2
"""Frames embedded on the CPU as well."""


def run(sizes: Sizes) -> Figures:
    """Raises AssertionError where device and CPU give other vectors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sizes.siglip
        make_model(sizes.siglip, path)
        model = siglip.load(path, sizes.device, sizes.precision)
        on_cpu = siglip.load(path, "cpu", "float32")
    images = repeated(frames(sizes.frames).images, sizes.frames)
    batch = siglip.GPU_BATCH if sizes.device == "cuda" else siglip.CPU_BATCH
    alone = products(sizes.siglip, len(images), batch, sizes.device, sizes.precision)

    def prepare() -> None:
        for start in range(0, len(images), batch):
            preprocess(images[start : start + batch], model.preprocessing, sizes.device, sizes.precision)
        wait(sizes.device)

    works = {"all": lambda: model.embed_images(images), "products": alone, "preparing": prepare}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(sizes.rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number:  # the first round allocates and chooses kernels
                taken[name].append(time.perf_counter() - started)
    seconds = {name: median(all_) for name, all_ in taken.items()}
    ms = {name: 1000 * each / len(images) for name, each in seconds.items()}
    few, expected = images[:COMPARED], on_cpu.embed_images(images[:COMPARED])
    same_vectors(sizes.device, model.embed_images(few), expected, SAME[sizes.precision])
    return {
        "dimensions": sizes.siglip,
        "precision": model.precision,
        "frames": len(images),
        "frames_per_s": len(images) / seconds["all"],
        "frames_per_s_of_products_alone": len(images) / seconds["products"],
        "share_of_products": seconds["products"] / seconds["all"],
        "ms_per_frame": {
            "matrix products": ms["products"],
            "copying and scaling pictures": ms["preparing"],
            "attention's softmax, norms, activations, the rest": max(0.0, ms["all"] - ms["products"] - ms["preparing"]),
        },
        "equal": {
            "rule": f"cosine of at least {SAME[sizes.precision]:g}",
            "sides": [f"{sizes.device} {sizes.precision}", "cpu float32"],
            "frames": COMPARED,
        },
    }
