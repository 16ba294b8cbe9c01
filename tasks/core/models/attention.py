"""Cross-attention in which all rows of a window share its audio: beams cost little more than one greedy row.

A decoding step reads the keys and values of 1,500 audio positions in every layer, which is most of its time on a CPU.
openai-whisper repeats them for each beam; here the rows of a window are queries of one product over keys and values
that were laid out for it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from whisper.decoding import PyTorchInference
from whisper.model import MultiHeadAttention, Whisper


class SharedAudioAttention(MultiHeadAttention):
    """MultiHeadAttention over audio (windows, positions, state) for rows (windows x rows of each, tokens, state)."""

    def forward(
        self,
        x: Tensor,
        xa: Tensor | None = None,
        mask: Tensor | None = None,
        kv_cache: dict[Any, Any] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As MultiHeadAttention.forward; without a cache (alignment of words, training) exactly that."""
        if kv_cache is None or xa is None:
            attended: tuple[Tensor, Tensor | None] = super().forward(x, xa, mask, kv_cache)
            return attended
        if self not in kv_cache:
            kv_cache[self] = self._laid_out(self.key(xa), self.value(xa))
            for projection in (
                self.key,
                self.value,
            ):  # as the hooks of whisper's cache have kept them: twice the memory
                kv_cache.pop(projection, None)
        keys, values = kv_cache[self]
        queries = self.query(x).view(len(keys), -1, self.n_head, keys.shape[2]).transpose(1, 2)
        weights = functional.softmax((queries @ keys).float(), dim=-1).to(queries.dtype)
        mixed = (weights @ values).transpose(1, 2).reshape(x.shape)
        return self.out(mixed), None

    def _laid_out(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (windows, heads, width, positions), scaled, and values (windows, heads, positions, width)."""
        windows, positions, state = keys.shape
        width = state // self.n_head
        split = (windows, positions, self.n_head, width)
        scaled = (keys.view(split) * width**-0.5).permute(0, 2, 3, 1).contiguous()
        return scaled, values.view(split).transpose(1, 2).contiguous()


class SharedAudioInference(PyTorchInference):
    """PyTorchInference that gives the decoder each window's audio once, however many rows the window has."""

    def __init__(self, network: Whisper, initial_tokens: int, rows: int) -> None:
        super().__init__(network, initial_tokens)
        self._rows = rows

    def logits(self, tokens: Tensor, audio_features: Tensor) -> Tensor:
        """Logits (rows, tokens, vocabulary); `audio_features` are repeated for each row, as DecodingTask has them."""
        logits: Tensor = super().logits(tokens, audio_features[:: self._rows])
        return logits

    def keep(self, windows: Sequence[int]) -> None:
        """Forget all windows but these, by their place among the present ones."""
        rows = [window * self._rows + row for window in windows for row in range(self._rows)]
        for module, kept in self.kv_cache.items():
            if isinstance(module, SharedAudioAttention):
                keys, values = kept
                self.kv_cache[module] = keys[windows], values[windows]
            else:
                self.kv_cache[module] = kept[rows]


def share_audio(network: Whisper) -> Whisper:
    """The network with SharedAudioAttention in each block of its decoder; same weights, same results.

    The embedding of tokens lies transposed in memory: every step multiplies with it so, and reads all of it.
    """
    embedding = network.decoder.token_embedding
    embedding.weight = nn.Parameter(embedding.weight.detach().t().contiguous().t(), embedding.weight.requires_grad)
    for block in network.decoder.blocks:
        attention = block.cross_attn
        if not isinstance(attention, SharedAudioAttention):
            shared = SharedAudioAttention(network.dims.n_text_state, network.dims.n_text_head)
            shared.load_state_dict(attention.state_dict())
            block.cross_attn = shared.to(attention.query.weight)
    return network
