"""Hostile weights: what is small on disk stays small in memory; nothing is called or downloaded while it is read."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.bank_vectors import load_vectors
from tasks.core.embeddings import load_embeddings
from tasks.core.errors import BadModel, DamagedArtifact, ModelNotFound
from tasks.core.models import bundled, siglip_files, whisper, yolo
from tasks.core.shots import load_shots
from tests.security.hostile import measured

MOST_MIB = 48.0
LARGE = 20_000_000
"""Weights of a bomb: 80 MB."""


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was connected to, which fails."""
    found: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


@pytest.fixture(autouse=True, scope="module")
def networks() -> Any:
    """ultralytics' networks, imported before memory is measured."""
    yolo.load_network(bundled.SHAPES_WEIGHTS)
    whisper.load(bundled.SPEECH_CHECKPOINT, "cpu", "float32")
    from ultralytics.nn import tasks

    return tasks


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self._call


def _deflated(path: Path) -> Path:
    packed = path.with_name("packed.pt")
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as small:
        for member in plain.infolist():
            small.writestr(member.filename, plain.read(member), zipfile.ZIP_DEFLATED)
    return packed


def _overlapping(path: Path) -> Path:
    """A hundred members that are the same bytes."""
    packed = path.with_name("overlap.pt")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data/0", bytes(10**6))
        for number in range(1, 100):
            again = copy.copy(archive.filelist[0])
            again.filename = f"archive/data/{number}"
            archive.filelist.append(again)
    return packed


def _saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def _speech(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(bundled.SPEECH_CHECKPOINT, weights_only=True)
    return found | changed


def _dims(**changed: int) -> dict[str, int]:
    return {**_speech()["dims"], **changed}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


SPEECH: dict[str, Callable[[Path], Path]] = {
    "compressed": lambda path: _deflated(_saved(path, _speech(more=torch.zeros(LARGE)))),
    "overlapping members": _overlapping,
    "a million words": lambda path: _saved(path, _speech(dims=_dims(n_vocab=10**6))),
    "most words": lambda path: _saved(path, {"dims": _dims(n_vocab=60_000), "model_state_dict": {}}),
    "most layers": lambda path: _saved(path, _speech(dims=_dims(n_audio_layer=16, n_audio_state=1024))),
    "views": lambda path: _saved(
        path, _speech(model_state_dict=_speech()["model_state_dict"] | {"more": torch.zeros(1).expand(LARGE)})
    ),
    "bytearray": lambda path: _saved(path, _speech(more=Calls(bytearray, 4 * LARGE))),
    "layer": lambda path: _saved(path, _speech(more=Calls(torch.nn.Linear, 6000, 6000))),
    "no archive": lambda path: _written(path, b"\x80\x02}q\x00."),
    "empty archive": lambda path: _written(path, b"PK\x05\x06" + bytes(18)),
}


@pytest.mark.parametrize("kind", SPEECH)
def test_hostile_speech_weights_stay_small(tmp_path: Path, kind: str) -> None:
    path = SPEECH[kind](tmp_path / "base.pt")
    assert path.stat().st_size < 10 * 2**20
    with measured() as cost, pytest.raises((BadModel, ModelNotFound)):
        whisper.load(path, "cpu", "float32")
    assert cost.mib < MOST_MIB


def _shapes(change: Callable[[Any], None]) -> dict[str, Any]:
    network = yolo.load_network(bundled.SHAPES_WEIGHTS)
    network.criterion = None
    change(network)
    return {"model": network, "train_args": {}}


def _expand(network: Any) -> None:
    first = network.model[0].conv
    first.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16).expand(LARGE, 1), requires_grad=False)


def _torchvision(_: Any) -> dict[str, Any]:
    from ultralytics.nn.modules.block import TorchVision

    return {"model": Calls(TorchVision, "resnet18", "DEFAULT")}


@pytest.mark.parametrize("kind", ["views", "layer", "bytearray", "torchvision", "world", "yoloe", "compressed"])
def test_hostile_detectors_stay_small_and_download_nothing(
    tmp_path: Path, kind: str, networks: Any, connected: list[Any]
) -> None:
    path = tmp_path / "yolo11n.pt"
    if kind in ("world", "yoloe"):
        kinds = {"world": networks.WorldModel, "yoloe": networks.YOLOEModel}
        _saved(path, _shapes(lambda network: setattr(network, "__class__", kinds[kind])))
    elif kind == "compressed":
        path = _deflated(_saved(path, {"model": torch.zeros(LARGE)}))
    else:
        content: dict[str, Callable[[], Any]] = {
            "views": lambda: _shapes(_expand),
            "layer": lambda: {"model": Calls(torch.nn.Linear, 6000, 6000)},
            "bytearray": lambda: {"model": Calls(bytearray, 4 * LARGE)},
            "torchvision": lambda: _torchvision(None),
        }
        _saved(path, content[kind]())
    with measured() as cost, pytest.raises(BadModel):
        yolo.load_network(path)
    assert cost.mib < MOST_MIB
    assert not connected


def test_weights_that_are_gone_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connected: list[Any]
) -> None:
    """They were there when they were looked for; ultralytics would get what has their name."""
    monkeypatch.chdir(tmp_path)
    for path in (Path("yolo11n.pt"), tmp_path / "yolo11n.pt"):
        with pytest.raises(BadModel):
            yolo.load_network(path)
    assert not connected
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connected: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("yolo11n.pt").write_bytes(b"damaged")
    with pytest.raises(BadModel):
        yolo.load_network(Path("yolo11n.pt"))
    assert not connected
    assert Path("yolo11n.pt").read_bytes() == b"damaged"


def test_a_config_that_asks_for_more_than_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(bundled.SCENES_MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= {"num_hidden_layers": 16, "hidden_size": 1024, "intermediate_size": 4096}
    config["vision_config"]["num_attention_heads"] = 16
    siglip_files.load_network(bundled.SCENES_MODEL, torch.float32)
    (folder / "config.json").write_text(json.dumps(config))
    with measured() as cost, pytest.raises(BadModel, match="asks for"):
        siglip_files.load_network(folder, torch.float32)
    assert cost.mib < MOST_MIB


@pytest.mark.parametrize("load", [load_vectors, load_embeddings, load_shots])
def test_arrays_that_unpack_themselves(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    path = tmp_path / "bomb.npz"
    vectors, texts = np.zeros((1, LARGE), np.float32), np.asarray(["a"])
    np.savez_compressed(
        path, tags=texts, tag_vectors=vectors, descriptions=texts, description_vectors=vectors, logits=np.zeros(2)
    )
    del vectors
    with measured() as cost, pytest.raises(DamagedArtifact) as caught:
        load(path)
    assert "is compressed" in str(caught.value.__cause__)
    assert cost.mib < MOST_MIB
