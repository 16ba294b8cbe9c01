"""Whisper in published dimensions: times real time with random weights and the same number of tokens per window."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._gpu import Figures, Sizes
from benchmarks.whisper_batch import DIMENSIONS, WINDOW_S, batched, decoding_options, random_checkpoint, spectrograms
from tasks.core.models import whisper


def run(sizes: Sizes) -> Figures:
    """Raises AssertionError where a window has another number of tokens, or all windows have the same ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = random_checkpoint(sizes.whisper, Path(folder) / f"random-{sizes.whisper}.pt")
        model = whisper.load(path, sizes.device, sizes.precision)
    mels = spectrograms(sizes.windows, DIMENSIONS[sizes.whisper]["n_mels"])
    options = decoding_options(sizes.tokens, model.fp16, model.network)
    batched(model, mels[: sizes.batch], sizes.batch, options)
    found = batched(model, mels, sizes.batch, options)
    lengths = {len(tokens) for tokens in found.tokens}
    assert lengths == {sizes.tokens}, f"windows have {sorted(lengths)} tokens, not {sizes.tokens}"
    assert len(set(map(tuple, found.tokens))) > 1, "all windows have the same tokens"
    seconds, steps = found.encoder_s + found.decoder_s, sizes.tokens * -(-sizes.windows // sizes.batch)
    return {
        "dimensions": sizes.whisper,
        "weights": "random",
        "precision": model.precision,
        "windows": sizes.windows,
        "batch": sizes.batch,
        "tokens_per_window": sizes.tokens,
        "times_real_time": WINDOW_S * sizes.windows / seconds,
        "ms_per_window": {
            "encoder": 1000 * found.encoder_s / sizes.windows,
            "decoder": 1000 * found.decoder_s / sizes.windows,
        },
        "ms_per_decoding_step": 1000 * found.decoder_s / steps,
    }
