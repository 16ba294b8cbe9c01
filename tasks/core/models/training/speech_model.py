"""The bundled Whisper while it trains: openai-whisper's own modules over the small vocabulary, losses and export."""

from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from whisper.model import ModelDimensions, MultiHeadAttention, Whisper, sinusoids
from whisper.tokenizer import get_tokenizer

from tasks.core.models.bundled import QUIET_LOGIT
from tasks.core.models.training.phrases import WORDS

N_TIMESTAMPS = 1501
"""One token for each 20 ms from 0 to 30 s."""

DIMS = ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=96,
    n_audio_head=3,
    n_audio_layer=3,
    n_vocab=51864,
    n_text_ctx=192,
    n_text_state=96,
    n_text_head=3,
    n_text_layer=2,
)

EOT, SOT, NO_SPEECH, NO_TIMESTAMPS = (len(WORDS) + i for i in range(4))
FIRST_TIMESTAMP = NO_TIMESTAMPS + 1
N_COMPACT = FIRST_TIMESTAMP + N_TIMESTAMPS
WORD_INDEX = {word: i for i, word in enumerate(WORDS)}


def used_tokens() -> list[int]:
    """Whisper's token id of each row of the small vocabulary."""
    tokenizer = get_tokenizer(multilingual=False)
    words = [tokenizer.encode(" " + word) for word in WORDS]
    if any(len(tokens) != 1 for tokens in words):
        raise ValueError("every word of the vocabulary must be a single token")
    specials = [tokenizer.eot, tokenizer.sot, tokenizer.no_speech, tokenizer.no_timestamps]
    return [t[0] for t in words] + specials + [tokenizer.timestamp_begin + i for i in range(N_TIMESTAMPS)]


class TrainableWhisper(nn.Module):
    """Whisper over the small vocabulary.

    Timestamp rows are sinusoids times one learned matrix.  The final layer norm's last channel is pinned to 1, so that
    rows left out of the checkpoint can hold one large negative number there and their logits stay low.
    """

    time_waves: Tensor
    pinned: Tensor

    def __init__(self) -> None:
        super().__init__()
        dims = ModelDimensions(**{**asdict(DIMS), "n_vocab": 1})
        self.whisper = Whisper(dims)
        state = DIMS.n_text_state
        nn.init.normal_(self.whisper.decoder.positional_embedding, std=0.05)
        self.rows = nn.Parameter(torch.randn(FIRST_TIMESTAMP, state) * 0.2)
        self.time_matrix = nn.Parameter(torch.eye(state) * 0.4)
        self.time_bias = nn.Parameter(torch.zeros(state))
        self.register_buffer("time_waves", sinusoids(N_TIMESTAMPS, state))
        pinned = torch.zeros(state)
        pinned[-1] = 1.0
        self.register_buffer("pinned", pinned)
        self.frame_words = nn.Linear(state, 1 + len(WORDS))
        for block in self.whisper.encoder.blocks:
            _attend_locally(block.attn)

    def embedding(self) -> Tensor:
        """Rows of the small vocabulary, (N_COMPACT, state)."""
        return torch.cat([self.rows, self.time_waves @ self.time_matrix + self.time_bias])

    def norm_parameters(self) -> tuple[Tensor, Tensor]:
        norm = self.whisper.decoder.ln
        return norm.weight * (1 - self.pinned), norm.bias * (1 - self.pinned) + self.pinned

    def encode(self, mel: Tensor, offset: int = 0) -> Tensor:
        """mel (B, 80, 2T) -> (B, T, state), as if its first frame were frame `offset` of a 30 s window."""
        encoder = self.whisper.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        x = x + encoder.positional_embedding[offset : offset + x.shape[1]]
        for block in encoder.blocks:
            x = block(x)
        features: Tensor = encoder.ln_post(x)
        return features

    def decode(self, tokens: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, L, N_COMPACT), and the last layer's cross-attention log weights (B, heads, L, T)."""
        decoder = self.whisper.decoder
        embedding = self.embedding()
        x = F.embedding(tokens, embedding) + decoder.positional_embedding[: tokens.shape[1]]
        for block in decoder.blocks[:-1]:
            x = block(x, audio, mask=decoder.mask)
        last = decoder.blocks[-1]
        x = x + last.attn(last.attn_ln(x), mask=decoder.mask)[0]
        crossed, attention = _cross_attend(last.cross_attn, last.cross_attn_ln(x), audio)
        x = x + crossed
        x = x + last.mlp(last.mlp_ln(x))
        weight, bias = self.norm_parameters()
        return F.layer_norm(x, (x.shape[-1],), weight, bias) @ embedding.T, attention


def _attend_locally(attention: MultiHeadAttention) -> None:
    """Start self-attention near the diagonal: query and key both read sinusoids of the same frequencies."""
    state, heads = attention.query.weight.shape[0], attention.n_head
    width, waves = state // heads, state // 2
    matrix = torch.zeros(state, state)
    for head in range(heads):
        first = head * 6
        for k in range(width // 2):
            matrix[head * width + k, first + k] = 1.3
            matrix[head * width + width // 2 + k, waves + first + k] = 1.3
    with torch.no_grad():
        for linear in (attention.query, attention.key):
            linear.weight.copy_(matrix + 0.03 * torch.randn_like(matrix))
        attention.query.bias.zero_()


def _cross_attend(attention: MultiHeadAttention, x: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Whisper's cross-attention, with its log weights kept in the graph."""
    heads = attention.n_head

    def split(y: Tensor) -> Tensor:
        return y.view(*y.shape[:2], heads, -1).permute(0, 2, 1, 3)

    query, key, value = split(attention.query(x)), split(attention.key(audio)), split(attention.value(audio))
    weights = F.log_softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
    mixed = (weights.exp() @ value).permute(0, 2, 1, 3).flatten(start_dim=2)
    return attention.out(mixed), weights


def export_checkpoint(model: TrainableWhisper) -> dict[str, object]:
    """The compact checkpoint: whisper's own names and shapes in fp16, with only the used rows of the embedding."""
    state = {name: value.detach().clone() for name, value in model.whisper.state_dict().items()}
    weight, bias = model.norm_parameters()
    state["decoder.ln.weight"], state["decoder.ln.bias"] = weight.detach(), bias.detach()
    state["decoder.token_embedding.weight"] = model.embedding().detach()
    unused = torch.zeros(DIMS.n_text_state)
    unused[-1] = QUIET_LOGIT
    return {
        "dims": asdict(DIMS),
        "model_state_dict": {name: value.half().contiguous() for name, value in state.items()},
        "used_tokens": torch.tensor(used_tokens(), dtype=torch.int32),
        "unused_row": unused.half(),
    }


def gaussian_weights(sigma: float = 1.0, reach: int = 3) -> Tensor:
    """Weights of a timestamp label over its neighbours, (2 * reach + 1,)."""
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return torch.tensor(weights / weights.sum(), dtype=torch.float32)
