"""Silero VAD's 16 kHz network, evaluated with NumPy from the weights that the silero-vad package carries.

The package's own loaders want torchaudio, torch.jit or onnxruntime, and run one 32 ms chunk per call. Only the LSTM
of the network is recurrent: here the spectrum and the convolutions of a whole block of chunks are matrix products,
and the LSTM alone goes step by step. No torch is imported, and a test compares the result with the package's model.

Network: https://github.com/snakers4/silero-vad, version 6, `tinygrad_model.py` of the package for its shapes.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core.errors import ModelNotFound
from tasks.core.options import SegmentOptions
from tasks.core.segments import SAMPLE_RATE, Activity, read_block
from tasks.core.segments.level import apply_gains, gains

CHUNK = 512
"""Samples per probability: 32 ms at 16 kHz."""
CONTEXT = 64
"""Samples of the previous chunk that the network sees before each chunk."""
BLOCK = 2048
"""Chunks evaluated together, 65.5 s: bounds memory to about 40 MB."""
HYSTERESIS = 0.15
"""Speech ends when the probability falls this far below the threshold (the package's `neg_threshold`)."""
WEIGHTS = "silero_vad_16k_op15.onnx"
"""Of the package's files, the smallest that holds the weights of its own default model (the safetensors are older)."""

Array = npt.NDArray[np.float32]


def activity(audio: Array, options: SegmentOptions) -> Activity:
    """Chunks of speech: on at `threshold`, off below `threshold - HYSTERESIS`, held in between."""
    return decide(speech_probabilities(audio), options)


def decide(probability: Array, options: SegmentOptions) -> Activity:
    """The same, of probabilities that are known already."""
    on = probability >= options.threshold
    off = probability < max(options.threshold - HYSTERESIS, 0.01)
    decided = np.where(on | off, np.arange(len(probability)), 0)
    return Activity(on[np.maximum.accumulate(decided)], CHUNK / SAMPLE_RATE)


def speech_probabilities(audio: Array) -> Array:
    """Probability of speech for each 32 ms: shape (ceil(samples / 512),), the last chunk padded with zeros.

    The loudness is made even first (level.py), so that quiet speech is found too.
    """
    network = _network()
    gain_db = gains(audio)
    chunks = -(-audio.size // CHUNK)
    result = np.empty(chunks, np.float32)
    state = (np.zeros(128, np.float32), np.zeros(128, np.float32))
    for first in range(0, chunks, BLOCK):
        last = min(first + BLOCK, chunks)
        begin = first * CHUNK - CONTEXT
        block = apply_gains(read_block(audio, begin, CONTEXT + (last - first) * CHUNK), begin, gain_db)
        result[first:last], state = network.run(block, state)
    return result


class _Network:
    def __init__(self, weights: dict[str, Array]) -> None:
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        self.basis = np.ascontiguousarray(weights["stft.forward_basis_buffer"][:, 0].T)
        self.convolutions = [
            (
                np.ascontiguousarray(weights[f"encoder.{layer}.reparam_conv.weight"].transpose(2, 1, 0)),
                weights[f"encoder.{layer}.reparam_conv.bias"],
                stride,
            )
            for layer, stride in enumerate((1, 2, 2, 1))
        ]
        # sigmoid(x) = (1 + tanh(x / 2)) / 2: with the three sigmoid gates halved here, one tanh serves all four.
        scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), 128)
        self.input = np.ascontiguousarray((weights["decoder.rnn.weight_ih"] * scale[:, None]).T)
        self.recurrent = np.ascontiguousarray(weights["decoder.rnn.weight_hh"] * scale[:, None])
        self.bias = (weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]) * scale
        self.out = weights["decoder.decoder.2.weight"].reshape(128)
        self.out_bias = weights["decoder.decoder.2.bias"][0]

    def run(self, block: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """Probabilities of n chunks from CONTEXT + n * CHUNK samples, and the LSTM's (hidden, cell) after them."""
        gates = self.encode(block) @ self.input + self.bias
        hidden, cell = state
        trace = np.empty((len(gates), 128), np.float32)
        for step, gate in enumerate(gates):
            activated = np.tanh(gate + self.recurrent @ hidden)
            halves = activated * 0.5 + 0.5
            cell = halves[128:256] * cell + halves[:128] * activated[256:384]
            hidden = halves[384:] * np.tanh(cell)
            trace[step] = hidden
        logits = np.maximum(trace, 0) @ self.out + self.out_bias
        return 1 / (1 + np.exp(-logits)), (hidden, cell)

    def encode(self, block: Array) -> Array:
        """Features of n chunks, (n, 128): magnitudes of 4 overlapping 256-sample frames, then 4 convolutions."""
        chunks = np.lib.stride_tricks.sliding_window_view(block, CONTEXT + CHUNK)[::CHUNK]
        padded = np.concatenate([chunks, chunks[:, -2 : -2 - 64 : -1]], axis=1)
        frames = np.lib.stride_tricks.sliding_window_view(padded, 256, axis=1)[:, ::128]
        spectrum = np.ascontiguousarray(frames) @ self.basis
        features = np.sqrt(spectrum[..., :129] ** 2 + spectrum[..., 129:] ** 2)
        for kernel, bias, stride in self.convolutions:
            features = _convolve(features, kernel, bias, stride)
        final: Array = features[:, 0]
        return final


def _convolve(x: Array, kernel: Array, bias: Array, stride: int) -> Array:
    """ReLU of a convolution along time, padding 1: x (n, time, in), kernel (3, in, out) -> (n, time / stride, out)."""
    steps = x.shape[1]
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    taps = [padded[:, tap : tap + steps : stride] @ kernel[tap] for tap in range(3)]
    activated: Array = np.maximum(taps[0] + taps[1] + taps[2] + bias, 0)
    return activated


@functools.cache
def _network() -> _Network:
    return _Network(read_onnx_tensors(_weights_file().read_bytes()))


def _weights_file() -> Path:
    # find_spec does not run the package's __init__, which imports torch and sets its thread count to one.
    spec = importlib.util.find_spec("silero_vad")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "data" / WEIGHTS
        if path.is_file():
            return path
    where = f"{folders[0]}/data" if folders else "no installed silero-vad package"
    raise ModelNotFound(
        f"Silero VAD's weights {WEIGHTS} were not found ({where}): install the locked requirements again "
        "(make setup), or choose segments.engine=librosa"
    )


def read_onnx_tensors(content: bytes) -> dict[str, Array]:
    """The float32 initializers of an ONNX file by name, read from protobuf's wire format without the onnx package.

    Fields used: ModelProto.graph 7, GraphProto.initializer 5, TensorProto.dims 1, name 8, raw_data 9.
    """
    tensors = {}
    for graph in _fields(memoryview(content)).get(7, []):
        for tensor in _fields(graph).get(5, []):
            fields = _fields(tensor)
            dims, name, raw = fields.get(1, []), bytes(fields[8][0]).decode(), fields.get(9)
            if raw and len(raw[0]) == 4 * math.prod(dims):
                tensors[name] = np.frombuffer(raw[0], "<f4").reshape(dims)
    return tensors


def _fields(message: memoryview) -> dict[int, list[Any]]:
    """Values of one protobuf message by field number: ints for varints, views of the bytes for the rest."""
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        match tag & 7:
            case 0:
                value, position = _varint(message, position)
                fields.setdefault(tag >> 3, []).append(value)
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(message, position)
            case 5:
                length = 4
            case kind:
                raise ValueError(f"no protobuf message: wire type {kind}")
        fields.setdefault(tag >> 3, []).append(message[position : position + length])
        position += length
    return fields


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
