"""The bundled SigLIP-type model: its dimensions, its tokenizer, and the folder that it is kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.models.training.scenes_text import words

IMAGE_SIZE = 64
PATCH_SIZE = 8
MOST_TOKENS = 24
VISION = {"hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4}
PAD, UNKNOWN, END = "<pad>", "<unk>", "</s>"
BICUBIC = 3
"""PIL's number of the resampling that SigLIP's processors name."""


def make_model() -> Any:
    """transformers' SiglipModel of these dimensions, with fresh weights from torch's generator."""
    from transformers import SiglipConfig, SiglipModel

    text = TEXT | {
        "vocab_size": len(words()) + 3,
        "max_position_embeddings": MOST_TOKENS,
        "projection_size": VISION["hidden_size"],
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 2,
    }
    vision = VISION | {"image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def make_tokenizer() -> Any:
    """Whole words, lower case, without punctuation; every word that the texts do not use is the same unknown one."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((PAD, UNKNOWN, END, *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, vocabulary[END])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, model_max_length=MOST_TOKENS
    )


def tokens(tokenizer: Any, texts: list[str]) -> Any:
    """(N, MOST_TOKENS) int64, padded and cut as SigLIP's processors do."""
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
    ).input_ids


def pixels(image: np.ndarray) -> Any:
    """A BGR picture of any size as uint8 (3, IMAGE_SIZE, IMAGE_SIZE) RGB, resized as SigLIP's processors do."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional  # type: ignore[import-untyped]

    planes = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    return functional.resize(planes, [IMAGE_SIZE, IMAGE_SIZE], InterpolationMode.BICUBIC, antialias=True)


def save_model(model: Any, folder: Path) -> None:
    """Writes what transformers loads: config.json, model.safetensors (float16), tokenizer and preprocessor files."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    preprocessor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n", encoding="utf-8")
