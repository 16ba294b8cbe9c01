"""Reads a SigLIP folder in transformers' format: every file is checked before a library acts on it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import BadModel, ToolFailed
from tasks.core.models.siglip_preprocess import Preprocessing

MOST_JSON_BYTES = 2**20
MOST = {
    "hidden_size": 8192,
    "intermediate_size": 65536,
    "num_hidden_layers": 128,
    "num_attention_heads": 256,
    "image_size": 2048,
    "patch_size": 128,
    "vocab_size": 2_000_000,
    "max_position_embeddings": 1024,
    "num_channels": 3,
    "projection_size": 8192,
}
"""Largest value of each dimension that is believed."""

RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers, torchvision's names."""

PROCESSORS = ("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil", "SiglipFeatureExtractor")
TOKENIZERS = (
    "SiglipTokenizer",
    "Siglip2Tokenizer",
    "GemmaTokenizer",
    "T5Tokenizer",
    "PreTrainedTokenizer",
    "TokenizersBackend",
)

Settings = Mapping[str, Any]


def read_config(folder: Path) -> Settings:
    """config.json of a SigLIP model of fixed resolution. Raises BadModel for anything else."""
    config = _read_json(folder, "config.json")
    kind = config.get("model_type")
    if kind == "siglip2":
        raise BadModel(
            f"{folder.name} is a NaFlex model, which takes pictures of any proportions; use a SigLIP 2 model of fixed "
            "resolution, such as google/siglip2-base-patch16-224"
        )
    if kind != "siglip":
        raise BadModel(
            f"{folder.name} is no SigLIP model (model_type {kind!r}); use one such as google/siglip-base-patch16-224"
        )
    for name in ("auto_map", "quantization_config"):
        if name in config:
            raise BadModel(
                f"{folder.name}: config.json asks for {name}, which is not supported; get the original model"
            )
    for tower in ("text_config", "vision_config"):
        part = config.setdefault(tower, {})
        if not isinstance(part, dict):
            raise BadModel(f"{folder.name}: config.json is damaged ({tower}); get the model again")
        for name, most in MOST.items():
            value = part.get(name, 1)
            if value is not None and (type(value) is not int or not 1 <= value <= most):
                raise BadModel(f"{folder.name}: config.json says {tower}.{name}={value!r}; 1 to {most} is possible")
    return config


def text_length(config: Settings) -> int:
    """Tokens that every text is padded or cut to."""
    return int(config["text_config"].get("max_position_embeddings") or 64)


def read_preprocessing(folder: Path, config: Settings) -> Preprocessing:
    """What the folder's image processor does. Raises BadModel for steps that SigLIP's does not have."""
    if (folder / "preprocessor_config.json").is_file():
        said: Any = _read_json(folder, "preprocessor_config.json")
    else:
        said = _read_json(folder, "processor_config.json").get("image_processor")
    kind = said.get("image_processor_type") or said.get("feature_extractor_type") if isinstance(said, dict) else None
    if not isinstance(said, dict) or kind not in PROCESSORS:
        raise BadModel(f"{folder.name}: its image processor is {kind!r}, not SigLIP's of fixed resolution")
    side = int(config["vision_config"].get("image_size") or 224)
    size = said.get("size", {"height": 224, "width": 224})
    if size not in ({"height": side, "width": side}, side):
        raise BadModel(f"{folder.name}: pictures are prepared at {size}, the network takes {side} x {side} pixels")
    if not said.get("do_resize", True) or said.get("do_center_crop") or said.get("do_pad"):
        raise BadModel(f"{folder.name}: its image processor crops, pads or does not resize; SigLIP's only resizes")
    asked = said.get("resample", 3)
    resample = RESAMPLING.get(asked) if isinstance(asked, int) else None
    if resample is None:
        raise BadModel(f"{folder.name}: resample={asked!r} is not supported (1, 2 or 3)")
    try:
        normalise = said.get("do_normalize", True)
        mean = _three(said.get("image_mean", (0.5, 0.5, 0.5)) if normalise else (0, 0, 0))
        std = _three(said.get("image_std", (0.5, 0.5, 0.5)) if normalise else (1, 1, 1))
        factor = float(said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1)
    except (TypeError, ValueError) as error:
        raise BadModel(f"{folder.name}: preprocessor_config.json is damaged; get the model again") from error
    if not 0 < factor <= 1 or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
        raise BadModel(
            f"{folder.name}: preprocessor_config.json has a scale or deviation that cannot be; get the model again"
        )
    return Preprocessing(side=side, resample=resample, factor=factor, mean=mean, std=std)


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of the folder. Raises BadModel for a damaged or unknown one, ToolFailed for a package."""
    transformers = import_transformers()
    said = _read_json(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    kind = str(said.get("tokenizer_class") or "SiglipTokenizer").removesuffix("Fast")
    if kind not in TOKENIZERS or "auto_map" in said:
        raise BadModel(f"{folder.name}: its tokenizer is {kind}, not one of SigLIP's ({', '.join(TOKENIZERS)})")
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise ToolFailed(
            f"{folder.name}: its tokenizer needs a package that is not installed; run make setup", detail=str(error)
        ) from error
    except Exception as error:
        raise BadModel(
            f"{folder.name}: its tokenizer files are missing or damaged; get the model again", detail=str(error)
        ) from error


def load_network(folder: Path, dtype: Any) -> Any:
    """transformers' SiglipModel with the folder's safetensors in it. Raises BadModel where weights are missing."""
    transformers = import_transformers()
    _check_size(folder, transformers)
    try:
        network, report = transformers.SiglipModel.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except Exception as error:
        raise BadModel(
            f"{folder.name} was not loaded: its weights are damaged or do not fit config.json; get the model again",
            detail=str(error),
        ) from error
    lacking = sorted({*map(str, report["missing_keys"]), *map(str, report["mismatched_keys"])})
    if lacking:
        raise BadModel(f"{folder.name}: {len(lacking)} weights are missing, first {lacking[0]}; get the model again")
    return network.eval().requires_grad_(False)


def _check_size(folder: Path, transformers: Any) -> None:
    """transformers makes what config.json asks for, and weights that are missing, before it says so."""
    import torch
    from safetensors import safe_open

    try:
        given = 0
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as weights:
                given += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        with torch.device("meta"):
            skeleton = transformers.SiglipModel(transformers.SiglipConfig.from_pretrained(str(folder)))
        needed = sum(weight.numel() for weight in skeleton.parameters())
    except Exception as error:
        raise BadModel(
            f"{folder.name} was not loaded: its weights or config.json are damaged; get the model again",
            detail=str(error),
        ) from error
    if needed > given:
        raise BadModel(
            f"{folder.name}: config.json asks for {needed} weights, the files hold {given}; get the model again"
        )


def import_transformers() -> Any:
    """transformers, without progress bars, advice and telemetry. Raises ToolFailed where it is not installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise ToolFailed("transformers is not installed; run make setup") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"{folder.name}: there is no {name} in it; get the whole model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadModel(f"{folder.name}: {name} is damaged; get the model again", detail=str(error)) from error
    if not isinstance(found, dict):
        raise BadModel(f"{folder.name}: {name} is damaged; get the model again")
    return found


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
