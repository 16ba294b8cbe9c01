"""Whisper windows per second by batch size: our batched decoding against whisper's own, one window at a time.

Random weights of the published dimensions stand in for weights that can't be had here: the arithmetic is the same,
the text means nothing. Every window is 30 s of noises and is given the same number of tokens (the end token is
suppressed), as many as half a minute of speech has. Ours is what the pipeline runs: `decoding.encode` and `BatchTask`
on a model of `whisper.load`. The other side is `whisper.load_model` and its DecodingTask for one window after
another, as `whisper.transcribe` does. Both decode greedily with timestamps, the spectrograms made beforehand, in
float32 on a CPU and in float16 on a GPU.

The check: every window has that many tokens, and the same ones on both sides and at every batch size; in float16,
where a batch is summed in another order, at least 9 of 10. Windows differ in their tokens, so that mixed up rows
would show.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._results import Plot, Row, Table, median, parser, publish
from benchmarks._turns import Side, Times, alternate
from tasks.core.models.device import choose_device, choose_precision
from tasks.workers.threads import available_cores

NAME = "whisper_batch"
WINDOW_S = 30
WHISPER = "whisper, one at a time"
SAME_SHARE_FP16 = 0.9

DIMENSIONS = {
    name: {
        "n_mels": mels,
        "n_audio_ctx": 1500,
        "n_audio_state": state,
        "n_audio_head": heads,
        "n_audio_layer": audio_layers,
        "n_vocab": vocabulary,
        "n_text_ctx": 448,
        "n_text_state": state,
        "n_text_head": heads,
        "n_text_layer": text_layers,
    }
    for name, mels, vocabulary, state, heads, audio_layers, text_layers in (
        ("tiny", 80, 51_865, 384, 6, 4, 4),
        ("base", 80, 51_865, 512, 8, 6, 6),
        ("small", 80, 51_865, 768, 12, 12, 12),
        ("medium", 80, 51_865, 1024, 16, 24, 24),
        ("large-v3", 128, 51_866, 1280, 20, 32, 32),
        ("large-v3-turbo", 128, 51_866, 1280, 20, 32, 4),
    )
}
"""As published with openai-whisper's checkpoints."""


Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Decoded:
    """Tokens of each window, and seconds of the two halves of the work."""

    tokens: list[list[int]]
    encoder_s: float
    decoder_s: float


def main(argv: Sequence[str]) -> None:
    """Measures each of the dimensions."""
    options = parser(NAME, __doc__)
    options.add_argument("--dimensions", nargs="+", choices=DIMENSIONS, default=["tiny", "base"])
    options.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8], help="windows decoded together")
    options.add_argument("--windows", type=int, default=8, help="windows in all; a multiple of each batch size")
    options.add_argument("--tokens", type=int, default=100, help="tokens of each window")
    options.add_argument("--threads", type=int, default=available_cores(), help="threads of torch")
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--repeat", type=int, default=3, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    if any(arguments.windows % batch for batch in arguments.batch):
        options.error("--windows must be a multiple of each --batch")
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        tables = [measure(name, Path(folder), arguments) for name in arguments.dimensions]
    publish(arguments, NAME, __doc__, tables)


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> Table:
    """One row per batch size, and one of whisper's own."""
    import whisper

    from tasks.core.models import whisper as ours

    device = choose_device(arguments.device, "transcript")
    precision = choose_precision("auto", device, "transcript")
    path = random_checkpoint(name, folder / f"random-{name}.pt")
    model = ours.load(path, device, precision)
    plain = whisper.load_model(str(path), device=device)
    path.unlink()
    mels = spectrograms(arguments.windows, DIMENSIONS[name]["n_mels"])
    options = decoding_options(arguments.tokens, model.fp16, plain)
    halves: dict[str, list[Decoded]] = {}
    runs: dict[str, Callable[[], Decoded]] = {WHISPER: functools.partial(one_at_a_time, plain, mels, options)}
    for batch in arguments.batch:
        runs[f"reelflow, {batch}"] = functools.partial(batched, model, mels, batch, options)
    expected = runs[WHISPER]().tokens
    assert len({tuple(tokens) for tokens in expected}) > 1, "all windows have the same tokens"

    def check(side: str, found: Decoded) -> None:
        same(side, found.tokens, expected, arguments.tokens, SAME_SHARE_FP16 if model.fp16 else 1.0)
        halves.setdefault(side, []).append(found)

    times = alternate({side: Side(run) for side, run in runs.items()}, arguments.repeat, check)
    rows = [
        row(side, 1 if side == WHISPER else int(side.split(", ")[1]), took, times[WHISPER], halves[side][1:], arguments)
        for side, took in times.items()
    ]
    where = f"{device}, {precision}, {arguments.threads} threads"
    plot = Plot("batch", ["windows/s"], by="side", log_x=True)
    note = f"{arguments.windows} windows of {arguments.tokens} tokens; {where}."
    return Table(f"{name} dimensions", rows, note, [plot])


def row(
    side: str, batch: int, took: Times, whispers: Times, halves: Sequence[Decoded], arguments: argparse.Namespace
) -> Row:
    """Figures of one side, for each window."""
    windows = arguments.windows
    return {
        "side": side.split(", ")[0] if side != WHISPER else side,
        "batch": batch,
        "windows/s": windows / took.wall_s,
        "times real time": WINDOW_S * windows / took.wall_s,
        "encoder ms/window": 1000 * median(half.encoder_s for half in halves) / windows,
        "decoder ms/window": 1000 * median(half.decoder_s for half in halves) / windows,
        "CPU s/window": took.cpu_s / windows,
        "speed / whisper's": 1 / took.wall_ratio(whispers),
    }


def same(side: str, found: list[list[int]], expected: list[list[int]], tokens: int, share: float) -> None:
    """Raises AssertionError unless each window has `tokens` tokens, and this share of them is as expected."""
    lengths = {len(window) for window in found}
    assert lengths == {tokens}, f"{side}: windows have {sorted(lengths)} tokens, not {tokens}"
    equal = float(np.mean(np.array(found) == np.array(expected)))
    assert equal >= share, f"{side}: only {equal:.1%} of the tokens are whisper's"


def batched(model: Any, mels: Sequence[Any], batch: int, options: Any) -> Decoded:
    """Ours."""
    from tasks.core.models import decoding

    def encode(some: Sequence[Any]) -> Any:
        return decoding.encode(model.network, some, model.fp16)

    def decode(features: Any) -> list[list[int]]:
        task = decoding.BatchTask(model.network, options, list(range(len(features))))
        return [result.tokens for result in task.run(features)]

    return _in_parts([mels[start : start + batch] for start in range(0, len(mels), batch)], encode, decode)


def one_at_a_time(network: Any, mels: Sequence[Any], options: Any) -> Decoded:
    """Whisper's own: what whisper.decode does with a spectrogram, its two halves timed apart."""
    import torch
    from whisper.decoding import DecodingTask

    def encode(some: Sequence[Any]) -> Any:
        with torch.no_grad():
            mel = some[0][None].to(network.device)
            return network.encoder(mel.half() if options.fp16 else mel)

    def decode(features: Any) -> list[list[int]]:
        return [result.tokens for result in DecodingTask(network, options).run(features)]

    return _in_parts([[mel] for mel in mels], encode, decode)


def _in_parts(
    batches: Sequence[Sequence[Any]], encode: Callable[[Sequence[Any]], Any], decode: Callable[[Any], list[list[int]]]
) -> Decoded:
    tokens: list[list[int]] = []
    encoder_s = decoder_s = 0.0
    for some in batches:
        started = time.perf_counter()
        features = encode(some)
        _wait(features)
        encoded = time.perf_counter()
        tokens += decode(features)
        encoder_s += encoded - started
        decoder_s += time.perf_counter() - encoded
    return Decoded(tokens, encoder_s, decoder_s)


def _wait(features: Any) -> None:
    """Until the GPU has finished; tokens come back to the CPU by themselves."""
    if features.is_cuda:
        import torch

        torch.cuda.synchronize()


def decoding_options(tokens: int, fp16: bool, network: Any) -> Any:
    """Greedy, as many tokens as asked for: never the end token."""
    from whisper.decoding import DecodingOptions
    from whisper.tokenizer import get_tokenizer

    end = get_tokenizer(network.is_multilingual, num_languages=network.num_languages).eot
    return DecodingOptions(language="en", temperature=0.0, sample_len=tokens, suppress_tokens=[-1, end], fp16=fp16)


def spectrograms(count: int, n_mels: int) -> list[Any]:
    """Log-mel (n_mels, 3000) of half a minute of whistling and hissing each, no two alike."""
    from whisper.audio import N_FRAMES, SAMPLE_RATE, pad_or_trim

    from tasks.core.models.seeking import window_mel

    choose, steps = np.random.default_rng(1), 10 * WINDOW_S

    def window() -> Audio:
        pitch = np.repeat(choose.uniform(100, 4000, steps), SAMPLE_RATE // 10)
        loudness = np.repeat(10 ** choose.uniform(-5, 0, steps), SAMPLE_RATE // 10)
        whistle = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
        sound: Audio = ((whistle + 0.1 * choose.standard_normal(whistle.size)) * loudness / 2).astype(np.float32)
        return sound

    return [pad_or_trim(window_mel(window(), n_mels), N_FRAMES) for _ in range(count)]


def random_checkpoint(name: str, path: Path) -> Path:
    """A checkpoint of these dimensions in openai-whisper's format, the same weights in every run.

    As initialised, attention would average over the whole window and all windows would get the same tokens; larger
    queries let it choose places.
    """
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(1)
    network = Whisper(ModelDimensions(**DIMENSIONS[name]))
    with torch.no_grad():
        network.decoder.positional_embedding.normal_(0, 0.02)
        network.decoder.token_embedding.weight.normal_(0, 0.02)
        for block in network.encoder.blocks:
            block.attn.query.weight.mul_(30)
        for block in network.decoder.blocks:
            block.cross_attn.query.weight.mul_(30)
            block.cross_attn.value.weight.mul_(4)
            block.cross_attn.out.weight.mul_(4)
    torch.save({"dims": DIMENSIONS[name], "model_state_dict": network.state_dict()}, path)
    return path
