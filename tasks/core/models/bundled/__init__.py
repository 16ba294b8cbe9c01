"""Small models and a sample clip for the demo and the tests; they know nothing of real speech or objects."""

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SPEECH_CHECKPOINT = FOLDER / "whisper-bundled.pt"
SHAPES_WEIGHTS = FOLDER / "yolo11-shapes.pt"
SCENES_MODEL = FOLDER / "siglip-scenes"
"""Folder in transformers' format."""

SAMPLE_CLIP = FOLDER / "sample.mp4"
SAMPLE_TRUTH = FOLDER / "sample.json"
METRICS = FOLDER / "metrics.json"

SAMPLE_OPTIONS = ("detections.image_size=320", "detections.confidence=0.35")
"""Options under which the detector finds the sample's shapes exactly; any confidence from 0.2 to 0.75 does."""

QUIET_LOGIT = -60.0
"""Logit of every token that the bundled speech model does not know."""

_EMBEDDING = "decoder.token_embedding.weight"


def expand_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """openai-whisper's full checkpoint from the compact one, as float32.

    The compact file holds the embedding rows of the tokens that the model knows (`used_tokens`, shape (K,)) and one row
    for all others (`unused_row`, shape (state,)).  The result has {"dims", "model_state_dict"} with the embedding
    (n_vocab, state) that `whisper.model.Whisper.load_state_dict` takes.  A full checkpoint is returned as it is.
    """
    if "used_tokens" not in checkpoint:
        return checkpoint
    dims: dict[str, int] = checkpoint["dims"]
    state = {name: value.float() for name, value in checkpoint["model_state_dict"].items()}
    embedding = checkpoint["unused_row"].float().repeat(dims["n_vocab"], 1)
    embedding[checkpoint["used_tokens"].long()] = state[_EMBEDDING]
    state[_EMBEDDING] = embedding
    return {"dims": dims, "model_state_dict": state}
