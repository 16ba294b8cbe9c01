"""Speech of clips through transformers' Whisper, as the public workloads of Ray Data and Daft run it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 8


class Transcriber:
    """One model and its feature extractor, float32, one thread."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

        torch.set_num_threads(1)
        self.extractor: Any = WhisperFeatureExtractor.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = WhisperForConditionalGeneration.from_pretrained(folder).eval()

    def texts(self, clips: Sequence[Any]) -> list[str]:
        """The text of each clip; float32 (samples,) at 16 kHz, at most 30 s."""
        import torch

        features = self.extractor(list(clips), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            tokens = self.model.generate(features.input_features, return_timestamps=True)
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))


def decode(data: bytes) -> Any:
    """A FLAC file of 16 kHz mono as float32 (samples,)."""
    import soundfile

    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def numbered(path: str) -> int:
    """A clip's place among the clips: its name."""
    return int(Path(path).stem)
