"""openai-whisper checkpoints in the formats that other engines read: transformers and CTranslate2 (faster-whisper).

The same weights, float32, and whisper's own vocabulary; nothing is downloaded.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

_NAMES = {
    "blocks": "layers",
    ".mlp.0": ".fc1",
    ".mlp.2": ".fc2",
    ".mlp_ln": ".final_layer_norm",
    ".cross_attn_ln": ".encoder_attn_layer_norm",
    ".cross_attn.query": ".encoder_attn.q_proj",
    ".cross_attn.key": ".encoder_attn.k_proj",
    ".cross_attn.value": ".encoder_attn.v_proj",
    ".cross_attn.out": ".encoder_attn.out_proj",
    ".attn_ln": ".self_attn_layer_norm",
    ".attn.query": ".self_attn.q_proj",
    ".attn.key": ".self_attn.k_proj",
    ".attn.value": ".self_attn.v_proj",
    ".attn.out": ".self_attn.out_proj",
    "decoder.ln.": "decoder.layer_norm.",
    "encoder.ln_post": "encoder.layer_norm",
    "token_embedding": "embed_tokens",
    "positional_embedding": "embed_positions.weight",
}
"""openai-whisper's names of weights, and those of transformers."""


def transformers_folder(checkpoint: Path) -> Path:
    """The checkpoint as a folder that transformers' `from_pretrained` and CTranslate2's converter read; made once."""
    made = checkpoint.with_suffix(".transformers")
    if made.is_dir():
        return made
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    from tasks.core.models.bundled import expand_checkpoint

    found = expand_checkpoint(torch.load(checkpoint, weights_only=True))
    dims, tokenizer = found["dims"], _tokenizer(found["dims"])
    config = WhisperConfig(
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
        decoder_start_token_id=tokenizer.sot,
        bos_token_id=tokenizer.eot,
        eos_token_id=tokenizer.eot,
        pad_token_id=tokenizer.eot,
    )
    network = WhisperForConditionalGeneration(config)
    state = {f"model.{_renamed(name)}": value for name, value in found["model_state_dict"].items()}
    state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
    network.load_state_dict(state)
    network.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.sot,
        bos_token_id=tokenizer.eot,
        eos_token_id=tokenizer.eot,
        pad_token_id=tokenizer.eot,
        no_timestamps_token_id=tokenizer.no_timestamps,
        is_multilingual=False,
        max_initial_timestamp_index=50,
        suppress_tokens=sorted(set(tokenizer.non_speech_tokens) | {tokenizer.sot, tokenizer.transcribe}),
        begin_suppress_tokens=[*tokenizer.encode(" "), tokenizer.eot],
        max_length=dims["n_text_ctx"],
        alignment_heads=[[0, 0]],
    )
    partial = made.with_suffix(".partial")
    network.save_pretrained(partial)
    WhisperFeatureExtractor(feature_size=dims["n_mels"]).save_pretrained(partial)
    _save_tokenizer(partial)
    return partial.replace(made)


def ctranslate2_folder(checkpoint: Path) -> Path:
    """The checkpoint as a folder that faster-whisper reads, float32; made once."""
    made = checkpoint.with_suffix(".ctranslate2")
    if made.is_dir():
        return made
    from ctranslate2.converters import TransformersConverter

    source = transformers_folder(checkpoint)
    partial = made.with_suffix(".partial")
    converter = TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"])
    converter.convert(str(partial), quantization="float32", force=True)
    shutil.rmtree(made, ignore_errors=True)
    return partial.replace(made)


def _renamed(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _tokenizer(dims: dict[str, int]) -> Any:
    """Whisper's own. Raises ValueError for a multilingual checkpoint: no comparison needs one."""
    from whisper.tokenizer import get_tokenizer

    if dims["n_vocab"] != 51864:
        raise ValueError("only English checkpoints (51864 tokens) are converted")
    return get_tokenizer(multilingual=False)


def _save_tokenizer(folder: Path) -> None:
    """Whisper's vocabulary as a `tokenizer.json`."""
    import whisper
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from whisper.tokenizer import get_encoding

    encoding = get_encoding("gpt2")
    special = sorted(encoding._special_tokens, key=encoding._special_tokens.__getitem__)
    vocabulary = Path(whisper.__file__).parent / "assets" / "gpt2.tiktoken"
    converted = TikTokenConverter(str(vocabulary), encoding._pat_str, extra_special_tokens=special).converted()
    for token in ("<|endoftext|>", "<|30.00|>"):
        assert converted.token_to_id(token) == encoding._special_tokens[token], f"{token} got another number"
    PreTrainedTokenizerFast(tokenizer_object=converted).save_pretrained(folder)
