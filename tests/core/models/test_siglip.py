"""Our batches give the vectors of transformers' own processor and model; damaged and hostile folders are refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.errors import BadModel, ToolFailed
from tasks.core.models import bundled, siglip, siglip_files

SAME = 0.9999
"""Cosine above which two vectors say the same."""
TEXTS = ["a red circle", "A photo of a Green Square.", "nothing", "two words and a very " + "long " * 80 + "text", ""]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights that keeps its pictures apart, bilinear and with odd means."""
    folder = tmp_path_factory.mktemp("models") / "siglip-small-patch8-56"
    make_model(folder, resample=2, mean=[0.45, 0.5, 0.4], std=[0.3, 0.25, 0.2])
    return folder


def make_model(folder: Path, resample: int = 3, mean: Any = (0.5,) * 3, std: Any = (0.5,) * 3, side: int = 56) -> None:
    import torch
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(5)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 2}
    vision = sizes | {"image_size": side, "patch_size": 8}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled.SCENES_MODEL / name, folder)
    said = {"image_processor_type": "SiglipImageProcessor", "resample": resample, "image_mean": list(mean)}
    said |= {"image_std": list(std), "size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


@pytest.fixture(params=["small", "bundled"])
def folder(request: pytest.FixtureRequest, small: Path) -> Path:
    return small if request.param == "small" else bundled.SCENES_MODEL


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """The small model, to be damaged."""
    return Path(shutil.copytree(small, tmp_path / "model"))


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pictures() -> list[np.ndarray]:
    """BGR pictures of several sizes and proportions, one of them smaller than the network's input."""
    rng = np.random.default_rng(3)
    sizes = [(360, 640), (90, 160), (360, 640), (480, 300), (40, 30), (56, 56), (360, 640)]
    made = []
    for height, width in sizes:
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((height // 6 + 1, width // 8 + 1, 1), np.uint8))[:height, :width]
        made.append(np.ascontiguousarray(picture))
    return made


def processed(folder: Path, images: list[np.ndarray], kind: str) -> np.ndarray:
    """Unit vectors by transformers' processor and model, one picture at a time."""
    import torch
    import transformers
    from PIL import Image

    processor = getattr(transformers, kind).from_pretrained(folder)
    model: Any = transformers.SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for image in images:
        inputs = processor(images=Image.fromarray(image[..., ::-1]), return_tensors="pt")
        with torch.no_grad():
            found.append(model.get_image_features(**inputs).pooler_output[0].numpy())
    return unit(np.stack(found))


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["SiglipImageProcessor", "SiglipImageProcessorPil"])
def test_pictures_are_seen_as_the_librarys_processor_and_model_see_them(folder: Path, kind: str) -> None:
    images = pictures()
    found = siglip.load(folder, "cpu").embed_images(images)
    wanted = processed(folder, images, kind)
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    assert (found * wanted).sum(axis=1).min() >= SAME
    others = wanted @ wanted.T - np.eye(len(wanted))
    assert others.min() < SAME, "the pictures are not told apart: the test could not fail"


def test_one_batch_is_its_frames_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = siglip.load(folder, "cpu"), pictures()
    batch = model.embed_images(images)
    single = np.concatenate([model.embed_images([image]) for image in images])
    assert (batch * single).sum(axis=1).min() >= SAME
    monkeypatch.setattr(siglip, "CPU_BATCH", 2)
    assert (batch * model.embed_images(images)).sum(axis=1).min() >= SAME
    assert np.linalg.norm(batch, axis=1) == pytest.approx(1, abs=1e-5)
    assert model.embed_images([]).shape == (0, model.dimensions)


def test_texts_are_read_as_the_librarys_model_reads_them(folder: Path) -> None:
    import torch
    import transformers

    network: Any = transformers.SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    length = network.config.text_config.max_position_embeddings
    inputs = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        wanted = unit(network.get_text_features(input_ids=inputs["input_ids"]).pooler_output.numpy())
    model = siglip.load(folder, "cpu")
    found = model.embed_texts(TEXTS)
    assert (found * wanted).sum(axis=1).min() >= SAME
    assert found[0] @ found[1] < SAME
    many = model.embed_texts(["a red circle"] * (2 * siglip.CPU_TEXTS + 1))
    assert (many @ found[0]).min() >= SAME
    assert model.embed_texts(["A RED Circle"])[0] @ found[0] >= SAME
    assert model.embed_texts([]).shape == (0, model.dimensions)


def test_probability_is_the_models_own(small: Path) -> None:
    import torch

    model = siglip.load(small, "cpu")
    assert (model.logit_scale, model.logit_bias) == (2.0, -3.0)
    cosines = np.linspace(-1, 1, 9)
    wanted = torch.sigmoid(torch.tensor(cosines) * torch.tensor(2.0).exp() - 3.0).numpy()
    assert model.probability(cosines) == pytest.approx(wanted, abs=1e-6)


def test_a_model_is_loaded_once(small: Path) -> None:
    assert siglip.load(small, "cpu") is siglip.load(small, "auto" if not gpu() else "cpu", "float32")


def gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.gpu
def test_half_precision_on_a_gpu_says_the_same(folder: Path) -> None:
    if not gpu():
        pytest.skip("no GPU")
    images = pictures()
    whole, half = siglip.load(folder, "cpu"), siglip.load(folder, "cuda", "float16")
    assert (whole.embed_images(images) * half.embed_images(images)).sum(axis=1).min() >= 0.999
    exact = siglip.load(folder, "cuda", "float32")
    assert (whole.embed_images(images) * exact.embed_images(images)).sum(axis=1).min() >= SAME


def test_a_device_or_precision_that_is_not_there_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with pytest.raises(ToolFailed, match=r"embeddings\.precision"):
        siglip.load(small, "cpu", "float16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ToolFailed, match=r"embeddings\.device=cuda"):
        siglip.load(small, "cuda")


def test_overflow_is_an_error_not_a_vector(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["vision_model.post_layernorm.weight"].fill_(float("inf"))
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ToolFailed, match="no finite vectors"):
        siglip.load(copy, "cpu")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"model_type": "siglip2"}, "NaFlex"),
        ("config.json", {"model_type": "clip"}, "no SigLIP"),
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ("config.json", {"vision_config": {"hidden_size": 10**9}}, "hidden_size"),
        ("config.json", {"vision_config": {"hidden_size": "48"}}, "hidden_size"),
        ("config.json", {"vision_config": [1]}, "damaged"),
        ("config.json", {"text_config": {"vocab_size": 0}}, "vocab_size"),
        ("preprocessor_config.json", {"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor"),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 64}}, "56 x 56"),
        ("preprocessor_config.json", {"do_center_crop": True}, "only resizes"),
        ("preprocessor_config.json", {"resample": 0}, "resample"),
        ("preprocessor_config.json", {"resample": [3]}, "resample"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "deviation"),
        ("preprocessor_config.json", {"image_mean": "no"}, "damaged"),
        ("preprocessor_config.json", {"rescale_factor": float("nan")}, "scale"),
        ("tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"}, "EvilTokenizer"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, "tokenizer"),
    ],
)
def test_a_folder_of_another_kind_is_refused(copy: Path, name: str, values: dict[str, Any], message: str) -> None:
    change(copy, name, **values)
    with pytest.raises(BadModel, match=message):
        siglip.load(copy, "cpu")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "huge"])
def test_a_damaged_folder_is_refused(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"[" * (siglip_files.MOST_JSON_BYTES + 1))
    with pytest.raises(BadModel, match=r"get the|no model\.safetensors"):
        siglip.load(copy, "cpu")


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["vision_model.head.other"] = weights.pop("vision_model.head.probe")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match=r"1 weights are missing, first vision_model\.head\.probe"):
        siglip.load(copy, "cpu")


def test_pickled_weights_are_never_read(copy: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(copy / "hacked"),)

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BadModel, match=r"no model\.safetensors"):
        siglip.load(copy, "cpu")
    (copy / "model.safetensors").write_bytes((copy / "pytorch_model.bin").read_bytes())
    with pytest.raises(BadModel):
        siglip.load(copy, "cpu")
    assert not (copy / "hacked").exists()


def test_parts_that_do_not_fit_are_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    said = json.loads(path.read_text())
    said["model"]["vocab"]["<pad>"] = 10_000
    for token in said["added_tokens"]:
        token["id"] = 10_000 if token["content"] == "<pad>" else token["id"]
    path.write_text(json.dumps(said))
    with pytest.raises(BadModel, match="do not fit each other"):
        siglip.load(copy, "cpu")


def test_sentencepiece_tokenizers_of_the_first_siglip_load(copy: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = [f"a photo of a {colour} {shape}" for colour in ("red", "green", "blue") for shape in ("ring", "star")]
    (copy / "lines.txt").write_text("\n".join(lines * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(copy / "lines.txt"), model_prefix=str(copy / "spiece"), vocab_size=40, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    vectors = siglip.load(copy, "cpu").embed_texts(["a red ring", "A Red, Ring!", "a blue star"])
    assert vectors[0] @ vectors[1] >= SAME > vectors[0] @ vectors[2]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every connection that is tried."""
    tried: list[object] = []

    def refuse(self: object, address: object, *_: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(None, address))
    return tried


def test_loading_asks_nobody(copy: Path, offline: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert siglip.load(copy, "cpu").embed_texts(["a red circle"]).shape == (1, 48)
    assert offline == []


def test_importing_the_engine_imports_no_network_library() -> None:
    import subprocess

    script = "import sys, tasks.core.models.siglip, tasks.core.models.siglip_weights\n"
    script += "assert not {'torch', 'transformers', 'huggingface_hub', 'tokenizers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
