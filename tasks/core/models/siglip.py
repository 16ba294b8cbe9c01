"""SigLIP and SigLIP 2 at fixed resolution: loaded once per process, unit vectors of pictures and texts in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.core.errors import BadModel, ToolFailed
from tasks.core.models import siglip_files
from tasks.core.models.device import choose_device, choose_precision
from tasks.core.models.siglip_preprocess import Preprocessing, preprocess
from tasks.core.models.siglip_weights import weights_digest

if TYPE_CHECKING:
    import torch

CPU_BATCH, GPU_BATCH = 8, 64
"""Pictures per forward pass."""

CPU_TEXTS, GPU_TEXTS = 16, 256
"""Texts per forward pass."""

Vectors = npt.NDArray[np.float32]
Input = TypeVar("Input", str, np.ndarray)

_models: dict[tuple[str, str, str, str], SiglipModel] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class SiglipModel:
    """A network of two towers in memory: pictures and texts become vectors of one space."""

    name: str
    device: str
    precision: str
    dimensions: int
    """Length D of a vector."""
    logit_scale: float
    """Logarithm, as the checkpoint has it."""
    logit_bias: float
    preprocessing: Preprocessing
    see: Callable[[torch.Tensor], torch.Tensor]
    """Pixels (B, 3, side, side) on the device to (B, D), not normalised."""
    read: Callable[[list[str]], torch.Tensor]
    """Texts to (B, D), not normalised."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def embed_images(self, images: Sequence[np.ndarray]) -> Vectors:
        """Unit vectors (T, D) of BGR uint8 pictures (H, W, 3) of any sizes, in the order given.

        Each is scaled to the network's square, whatever its proportions, as SigLIP's processor does.  Raises
        ToolFailed when half precision overflows.
        """
        vectors = np.zeros((len(images), self.dimensions), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(number)
        step = GPU_BATCH if self.device == "cuda" else CPU_BATCH
        for numbers in by_shape.values():
            for start in range(0, len(numbers), step):
                some = numbers[start : start + step]
                vectors[some] = self._unit(self._see, [images[number] for number in some])
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (N, D) of texts; lower-cased, cut after the network's number of tokens (64)."""
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        step = GPU_TEXTS if self.device == "cuda" else CPU_TEXTS
        for start in range(0, len(texts), step):
            some = [text.lower() for text in texts[start : start + step]]
            vectors[start : start + step] = self._unit(self.read, some)
        return vectors

    def probability(self, cosine: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What the model's own sigmoid makes of cosines: how likely a text belongs to a picture, 0 to 1."""
        logits = np.asarray(cosine, np.float64) * np.exp(self.logit_scale) + self.logit_bias
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))

    def _see(self, images: list[np.ndarray]) -> torch.Tensor:
        return self.see(preprocess(images, self.preprocessing, self.device, self.precision))

    def _unit(self, embed: Callable[[list[Input]], torch.Tensor], inputs: list[Input]) -> Vectors:
        import torch

        with self.lock, torch.inference_mode():
            found = embed(inputs).float()
            vectors: Vectors = torch.nn.functional.normalize(found, dim=-1).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ToolFailed(
                f"{self.name} gives no finite vectors in {self.precision}; set embeddings.precision=float32"
            )
        return vectors


def load(path: Path, device: str = "auto", precision: str = "auto") -> SiglipModel:
    """The model of a folder in transformers' format, loaded by the first call of this process and kept.

    Only safetensors are read, and no code or file from anywhere else.  Raises BadModel for a folder that is damaged,
    incomplete, of another kind, or a NaFlex variant; ToolFailed for a device that is not there, a package that is
    missing, or float16 on a CPU.
    """
    device = choose_device(device, "embeddings")
    precision = choose_precision(precision, device, "embeddings")
    key = (str(path.absolute()), weights_digest(path), device, precision)
    with _loading:
        if key not in _models:
            _models[key] = _load(path, device, precision)
        return _models[key]


def _load(path: Path, device: str, precision: str) -> SiglipModel:
    import torch

    settings = siglip_files.read_config(path)
    preprocessing = siglip_files.read_preprocessing(path, settings)
    tokenizer = siglip_files.load_tokenizer(path)
    network = siglip_files.load_network(path, getattr(torch, precision)).to(device)
    tokens = siglip_files.text_length(settings)

    def read(texts: list[str]) -> torch.Tensor:
        # No attention mask: SigLIP was trained to see its padding.
        numbers = tokenizer(texts, padding="max_length", truncation=True, max_length=tokens, return_tensors="pt")
        said: torch.Tensor = network.text_model(numbers["input_ids"].to(device)).pooler_output
        return said

    def see(pixels: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = network.vision_model(pixels).pooler_output
        return seen

    model = SiglipModel(
        name=path.name,
        device=device,
        precision=precision,
        dimensions=int(network.config.vision_config.hidden_size),
        logit_scale=float(network.logit_scale.detach()),
        logit_bias=float(network.logit_bias.detach()),
        preprocessing=preprocessing,
        see=see,
        read=read,
    )
    _try(model, path)
    return model


def _try(model: SiglipModel, path: Path) -> None:
    """One picture and one text through both towers, so that a folder whose parts do not fit fails here."""
    side = model.preprocessing.side
    try:
        model.embed_images([np.zeros((side, side, 3), np.uint8)])
        model.embed_texts([""])
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise BadModel(
            f"{path}: the tokenizer, the configuration and the weights do not fit each other; get the model again",
            detail=str(error),
        ) from error
